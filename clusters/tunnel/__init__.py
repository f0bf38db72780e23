"""The tunnel: the hub that agents dial, its sessions, and the gateway that pulls go through."""
