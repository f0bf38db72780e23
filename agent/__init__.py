"""What runs in the remote cluster: it dials the hub, measures, and serves what it measured.

It imports nothing of the server, so that it can be shipped alone.
"""

__version__ = "0.1.0"
