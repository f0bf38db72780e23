"""The errors of a metric store."""

from __future__ import annotations


class StoreError(Exception):
    """The store failed; the message names the file or bucket and the reason."""
