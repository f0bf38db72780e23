"""The hub process: it holds the tunnels and lets pulls through them."""
