"""What is off at one part of a cluster: a node, a filesystem, its clock. Pure; no Django.

A pull makes them from the newest minute (:mod:`metrics.pulling.conditions`), each with its own
*since*; they are stored as JSON beside the numbers, and :mod:`clusters.health` judges them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

What = Literal[
    "not_ready",  # a node says so
    "missing",  # a node that nobody listed as removed sends nothing
    "not_said",  # a node sends numbers, but not whether it is ready
    "no_numbers",  # a node is listed, but its numbers are not known; detail says why
    "partly_blind",  # a note: the source cannot read the part of the cluster that name says
    "pressure",  # detail names the node's own warnings
    "filesystem",  # ratio of its bytes in use
    "inodes",  # ratio of its inodes in use
    "memory",  # ratio of the cluster's memory in use
    "readiness",  # a note: the source never says whether nodes are ready
    "agent_outdated",  # a note: the agent does not say what it cannot see
]
NOTES: frozenset[str] = frozenset({"partly_blind", "readiness", "agent_outdated"})
"""What is worth a line, but never changes the state."""
OF_NODES: frozenset[str] = frozenset({"not_ready", "missing", "not_said"})
"""What counts a node as not ready, or as not known."""
GONE_SECONDS = 3600
"""How long something that was wrong stays *not known* after its measurements end: then it was
removed."""
SMALLEST_BYTES = 1 << 30
"""Smaller filesystems alarm nobody, unless a setting says so."""
MAX_CONDITIONS = 60
"""How many are stored for a cluster; the worst come first."""
_TEXT = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One thing that is off, or worth a note.

    Attributes:
        what: its kind.
        node: the node's name; "" for the cluster as a whole.
        name: the mount of a filesystem, or a part of the cluster; "" for others.
        ratio: 0..1 of what is measured; None where nothing is.
        size: bytes of the filesystem; None if not known.
        detail: more words from the source, cleaned and cut.
        since: since when it is so, by the minutes; None if they do not say.
        at_least: whether it may have begun before ``since``: nothing is known of the time before.
        gone_at: end of the last minute that measured it; None while it is measured.
    """

    what: What
    node: str = ""
    name: str = ""
    ratio: float | None = None
    size: int | None = None
    detail: str = ""
    since: datetime | None = None
    at_least: bool = False
    gone_at: datetime | None = None

    @property
    def key(self) -> str:
        """Return what identifies it among the conditions of its cluster, e.g. ``node:n3``."""
        match self.what:
            case "not_ready" | "missing" | "not_said":
                return f"node:{self.node}"
            case "filesystem" | "inodes":
                return f"{self.what}:{self.node}:{self.name}"
            case "partly_blind":
                return f"{self.what}:{self.name}"
            case "pressure" | "no_numbers":
                return f"{self.what}:{self.node}"
        return self.what

    def as_json(self) -> dict[str, Any]:
        """Return what is stored: only the attributes that say something."""
        told: dict[str, Any] = {"what": self.what}
        for name in ("node", "name", "ratio", "size", "detail", "at_least"):
            value = getattr(self, name)
            if value not in ("", None, False):
                told[name] = value
        for name in ("since", "gone_at"):
            moment: datetime | None = getattr(self, name)
            if moment is not None:
                told[name] = moment.timestamp()
        return told


def conditions_of(stored: object) -> tuple[Condition, ...]:
    """Return stored conditions; what this version cannot read is left out."""
    if not stored:
        return ()
    entries: Sequence[Any] = stored if isinstance(stored, list | tuple) else ()
    found = (_condition(entry) for entry in entries[:MAX_CONDITIONS])
    return tuple(one for one in found if one is not None)


def by_key(conditions: Iterable[Condition]) -> dict[str, Condition]:
    """Return conditions by their keys."""
    return {condition.key: condition for condition in conditions}


def _condition(entry: object) -> Condition | None:
    if not isinstance(entry, Mapping) or entry.get("what") not in What.__args__:  # type: ignore[attr-defined]
        return None
    return Condition(
        what=entry["what"],
        node=str(entry.get("node", ""))[:_TEXT],
        name=str(entry.get("name", ""))[:_TEXT],
        ratio=_number(entry.get("ratio")),
        size=None if (size := _number(entry.get("size"))) is None else int(size),
        detail=str(entry.get("detail", ""))[:_TEXT],
        since=_moment(entry.get("since")),
        at_least=entry.get("at_least") is True,
        gone_at=_moment(entry.get("gone_at")),
    )


def _number(value: object) -> float | None:
    return float(value) if type(value) in (int, float) else None  # type: ignore[arg-type]


def _moment(value: object) -> datetime | None:
    number = _number(value)
    return None if number is None else datetime.fromtimestamp(number, UTC)
