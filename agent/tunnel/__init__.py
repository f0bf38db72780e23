"""How the agent gets out and stays connected."""
