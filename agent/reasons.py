"""Errors of libraries in words for the agent's log."""

from __future__ import annotations

import re

_ARGUMENTS = re.compile(
    r" ?\b\w+[:=]<[^<>]* at 0x[0-9a-fA-F]+>|<[^<>]* at 0x[0-9a-fA-F]+>|\bssl:(default|True|False)\b"
)
"""What aiohttp writes of its own arguments: ``host:443 ssl:<ssl.SSLContext object at 0x...>``."""


def reason_of(exc: BaseException) -> str:
    """Return an error's text without Python's names of objects, which say nothing to a reader.

    The name of its class where nothing else is left.
    """
    text = " ".join(_ARGUMENTS.sub("", str(exc)).split())
    return text or type(exc).__name__
