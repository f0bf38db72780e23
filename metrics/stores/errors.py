"""What a metric store raises."""

from __future__ import annotations


class StoreError(Exception):
    """The store cannot do it; the message names the file or bucket and the reason."""
