"""How names from clusters stand in addresses. They may hold anything that is not a control."""

from __future__ import annotations


class Segment:
    """Any text as one part of a path: ``/`` is written ``~1``, ``~`` as ``~0``, "" as ``~2``.

    As in JSON pointers (RFC 6901); Kubernetes names hold none of these.
    """

    regex = "[^/]+"

    def to_python(self, value: str) -> str:
        """Return the text of a part."""
        if value == "~2":
            return ""
        return value.replace("~1", "/").replace("~0", "~")

    def to_url(self, value: str) -> str:
        """Return the part of a text."""
        return value.replace("~", "~0").replace("/", "~1") or "~2"


class Anything:
    """Any text with at least one character, slashes and line breaks included."""

    regex = "(?s:.+)"

    def to_python(self, value: str) -> str:
        """Return the text as it is."""
        return value

    def to_url(self, value: str) -> str:
        """Return the text as it is; Django quotes it."""
        return value
