"""What comes from a cluster is hostile until checked: names (labels, series, versions), moments."""

from __future__ import annotations

import unicodedata

from opscenter.core.errors import BadResponseError

MAX_MOMENT = 4_102_444_800  # 2100, Unix seconds: nothing is later, and calendars hold it
MAX_NAME = 253  # as Kubernetes; of raw text, before control characters go
_UNSAFE_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})


def clean_text(value: object, where: str, longest: int) -> str:
    """Return text from a cluster without anything that does not print.

    Line breaks, control characters, direction marks and private code points go, the same that
    the agent takes out itself, so that two of its names never become one here. Markup stays: it
    is escaped where it is shown.

    Raises:
        BadResponseError: if it is no text or longer than ``longest`` characters.
    """
    if type(value) is not str:
        msg = f"{where}: not a text"
        raise BadResponseError(msg, problem="bad_name")
    if len(value) > longest:
        msg = f"{where}: {len(value)} characters; at most {longest} are accepted"
        raise BadResponseError(msg, problem="bad_name")
    if value.isprintable():
        return value
    return "".join(c for c in value if unicodedata.category(c) not in _UNSAFE_CATEGORIES)
