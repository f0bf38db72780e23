"""How many examples a property is tried with."""

from __future__ import annotations

from hypothesis import settings

_FULL = 100  # what the profile of the whole suite says


def examples(number: int) -> int:
    """Return ``max_examples``: all of ``number``, in a quick run a part of them, at least three."""
    return max(3, min(number, number * settings().max_examples // _FULL))
