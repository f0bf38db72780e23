"""What is connected, who may see it, and how to reach it."""
