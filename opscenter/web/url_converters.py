"""How names from clusters are written in URLs. They may hold anything but control characters."""

from __future__ import annotations

import re


class Segment:
    """Any text as one part of a path: ``/`` is written ``~1``, ``~`` as ``~0``, "" as ``~2``.

    As in JSON pointers (RFC 6901); Kubernetes names hold none of these. A dot is ``~3`` in the
    texts ``.`` and ``..``, which browsers would resolve.
    """

    regex = "[^/]+"

    def to_python(self, value: str) -> str:
        """Return the text of a part."""
        if value == "~2":
            return ""
        return value.replace("~3", ".").replace("~1", "/").replace("~0", "~")

    def to_url(self, value: str) -> str:
        """Return the part of a text."""
        if value in (".", ".."):
            return value.replace(".", "~3")
        return value.replace("~", "~0").replace("/", "~1") or "~2"


class Anything:
    """Any text with at least one character, slashes and line breaks included.

    Browsers resolve the parts ``.`` and ``..`` of a path, also percent-encoded ones, so that a
    link to a node of that name would lead elsewhere: such a part gets a ``~`` in front.
    """

    regex = "(?s:.+)"

    def to_python(self, value: str) -> str:
        """Return the text of a path."""
        return _ESCAPED_DOTS.sub(r"\1", value)

    def to_url(self, value: str) -> str:
        """Return the path of a text; Django quotes it."""
        return _DOTS.sub(r"~\g<0>", value)


_DOTS = re.compile(r"(?<![^/])~*\.{1,2}(?![^/])")
_ESCAPED_DOTS = re.compile(r"(?<![^/])~(~*\.{1,2})(?![^/])")
