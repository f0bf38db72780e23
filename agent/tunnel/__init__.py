"""How the agent connects to a hub and stays connected."""
