"""What is off at single parts of a cluster, from one answer's newest minute. Pure.

Not the nodes' readiness, which the inventory counts (:mod:`clusters.node_inventory`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from clusters.conditions import (
    GONE_SECONDS,
    OF_NODES,
    SMALLEST_BYTES,
    Condition,
    What,
    by_key,
)
from clusters.health import (
    FILESYSTEM_CRITICAL,
    FILESYSTEM_DEGRADED,
    INODES_CRITICAL,
    INODES_DEGRADED,
    MEMORY_DEGRADED,
)
from metrics.series.catalog import FIELD_NAMES
from metrics.series.rollups import rounded_mean
from metrics.series.rows import MinuteRow, SeriesInfo
from metrics.series.source_answer import CollectorState

_NO_ALARM_TYPES = frozenset({"squashfs", "iso9660", "udf", "erofs", "cramfs", "romfs"})
_DETAIL = 300
EXPECTED_DAYS = 1
"""How long numbers are missed of a source that has none of any node any more."""
_NEVER = 2.0  # more than a whole
LIMITS: Mapping[What, tuple[float, float]] = {
    "filesystem": (FILESYSTEM_DEGRADED, FILESYSTEM_CRITICAL),
    "inodes": (INODES_DEGRADED, INODES_CRITICAL),
    "memory": (MEMORY_DEGRADED, _NEVER),
}
"""The ratios from which something is off, and from which it is worse."""


@dataclass(frozen=True, slots=True)
class Minute:
    """The newest minute of an answer.

    Attributes:
        as_of: its end, by our clock.
        nodes: its rows of nodes.
        filesystems: its rows of filesystems that are judged, see :func:`judged_filesystems`.
        infos: what else is known of each series.
    """

    as_of: datetime
    nodes: Sequence[MinuteRow]
    filesystems: Sequence[MinuteRow]
    infos: Sequence[SeriesInfo]


def judged_filesystems(
    rows: Iterable[MinuteRow], infos: Iterable[SeriesInfo], *, all_of_them: bool
) -> list[MinuteRow]:
    """Return the filesystems that may alarm somebody.

    Not those that are full by nature or by accident of their size: read-only ones, loop devices,
    images, and everything under :data:`SMALLEST_BYTES`.

    Args:
        rows: filesystems of one minute.
        infos: their attributes: ``device``, ``fstype`` and ``ro`` ("1").
        all_of_them: whether to leave out none.
    """
    if all_of_them:
        return list(rows)
    attrs = {info.key: info.attrs for info in infos if info.key.kind == "filesystem"}
    return [row for row in rows if not _alarms_nobody(row, attrs.get(row.key, {}))]


def conditions_of_minute(
    minute: Minute,
    memory_share: float | None,
    state: CollectorState | None,
    recorded: Sequence[Condition],
    *,
    had_numbers: bool = False,
) -> list[Condition]:
    """Return what is off, and what was off and is not measured any more.

    A condition that was there before, at the same level, keeps its since.

    Args:
        minute: the newest minute.
        memory_share: 0..1 of the cluster's memory in use; None if not known.
        state: what the source says about its own sight; None if it does not say.
        recorded: the conditions of the pull before.
        had_numbers: whether the pull before had numbers of any node.
    """
    expected = state is not None or had_numbers or _were_expected(recorded, minute.as_of)
    found = [
        *_filesystems(minute.filesystems),
        *_memory(memory_share, minute.nodes),
        *_pressure(minute.infos, {row.key.name for row in minute.nodes}),
        *_without_numbers(state, minute.nodes, recorded, expected=expected),
    ]
    before = by_key(recorded)
    found = [_as_before(one, before.get(one.key)) for one in found]
    known = {one.key for one in found}
    return found + [
        gone
        for one in recorded
        if one.key not in known and (gone := _gone(one, minute, memory_share)) is not None
    ]


def level_of(condition: Condition) -> int:
    """Return 0 for no limit passed, 1 for the first and 2 for the second."""
    low, high = LIMITS.get(condition.what, (0.0, _NEVER))
    ratio = condition.ratio if condition.ratio is not None else 1.0
    return (ratio >= low) + (ratio >= high)


def value(row: MinuteRow, field: str) -> int | None:
    """Return the mean of one field of a row; None if it was not measured."""
    cell = row.cells[FIELD_NAMES[row.key.kind].index(field)]
    return None if cell is None else rounded_mean(cell.total, cell.n)


def bytes_ratio(row: MinuteRow) -> float | None:
    """Return how full a filesystem is, 0..1; None without a capacity."""
    used, cap = value(row, "used"), value(row, "cap")
    return None if used is None or not cap or cap < 0 else min(1.0, max(0.0, used / cap))


def inodes_ratio(row: MinuteRow) -> float | None:
    """Return which part of a filesystem's inodes is in use, 0..1; None if it has none."""
    free, total = value(row, "inodes_free"), value(row, "inodes_total")
    if free is None or not total or total < 0:
        return None
    return min(1.0, max(0.0, 1 - free / total))


def _alarms_nobody(row: MinuteRow, attrs: Mapping[str, str]) -> bool:
    cap = value(row, "cap")
    return (
        (cap is not None and cap < SMALLEST_BYTES)
        or attrs.get("ro") == "1"
        or attrs.get("fstype", "") in _NO_ALARM_TYPES
        or attrs.get("device", "").startswith(("/dev/loop", "loop"))
    )


def _filesystems(rows: Iterable[MinuteRow]) -> Iterable[Condition]:
    for row in rows:
        ratio = bytes_ratio(row)
        if ratio is not None and ratio >= FILESYSTEM_DEGRADED:
            yield _of_filesystem("filesystem", row, ratio, value(row, "cap"))
        ratio = inodes_ratio(row)
        if ratio is not None and ratio >= INODES_DEGRADED:
            yield _of_filesystem("inodes", row, ratio, None)


def _of_filesystem(what: What, row: MinuteRow, ratio: float, size: int | None) -> Condition:
    return Condition(what=what, node=row.key.ns, name=row.key.name, ratio=ratio, size=size)


def _memory(share: float | None, nodes: Iterable[MinuteRow]) -> Iterable[Condition]:
    if share is not None and share >= MEMORY_DEGRADED:
        yield Condition(what="memory", ratio=share, size=_memory_measured(nodes))


def _memory_measured(nodes: Iterable[MinuteRow]) -> int:
    """Return the capacity of the nodes whose memory in use is known, in bytes."""
    known = (node for node in nodes if value(node, "mem_ws") is not None)
    return sum(value(node, "mem_cap") or 0 for node in known)


def _pressure(infos: Iterable[SeriesInfo], present: set[str]) -> Iterable[Condition]:
    for info in infos:
        if info.key.kind == "node" and info.key.name in present and info.attrs.get("conditions"):
            words = ", ".join(info.attrs["conditions"].split(","))
            yield Condition(what="pressure", node=info.key.name, detail=words[:_DETAIL])


def _were_expected(recorded: Sequence[Condition], as_of: datetime) -> bool:
    """Return whether nodes have had no numbers since some lately: a source never had them else."""
    since = [one.since for one in recorded if one.what == "no_numbers" and one.since is not None]
    return any(as_of - at <= timedelta(days=EXPECTED_DAYS) for at in since)


def _without_numbers(
    state: CollectorState | None,
    nodes: Sequence[MinuteRow],
    recorded: Sequence[Condition],
    *,
    expected: bool,
) -> list[Condition]:
    """Return which ready nodes have no numbers; a source that sees nothing changes nothing.

    Unless numbers are ``expected``, a source that has none of any node is one that never has.
    """
    if state is not None and not state.ok:
        present = {row.key.name for row in nodes}
        return [
            one
            for one in recorded
            if one.what == "partly_blind" or (one.what == "no_numbers" and one.node in present)
        ]
    found = list(_problems(state, nodes))
    told = {one.node for one in found}
    silent = [row for row in nodes if not _is_measured(row)]
    if len(silent) == len(nodes) and not expected:
        return found
    return found + [
        Condition(what="no_numbers", node=row.key.name, detail="its source sends none")
        for row in silent
        if row.key.name not in told and value(row, "ready") != 0
    ]


def _is_measured(node: MinuteRow) -> bool:
    return any(value(node, field) is not None for field in ("cpu_mc", "mem_ws"))


def _problems(state: CollectorState | None, nodes: Iterable[MinuteRow]) -> Iterable[Condition]:
    """Return which ready nodes have no numbers, and what else the source cannot read."""
    ready = {row.key.name: value(row, "ready") for row in nodes}
    for part, text in (state.problems if state is not None else {}).items():
        if part not in ready:
            yield Condition(what="partly_blind", name=part[:_DETAIL], detail=text[:_DETAIL])
        elif ready[part] != 0:
            yield Condition(what="no_numbers", node=part, detail=text[:_DETAIL])


def _as_before(one: Condition, before: Condition | None) -> Condition:
    if before is None or before.since is None or level_of(before) != level_of(one):
        return one
    return replace(one, since=before.since, at_least=before.at_least)


def _gone(one: Condition, minute: Minute, memory_share: float | None) -> Condition | None:
    """Return what was off and is not measured in this minute; None if it is measured, or over."""
    if one.what in OF_NODES or one.what not in ("filesystem", "inodes", "memory"):
        return None
    if one.what == "memory":
        whole = all(value(row, "mem_ws") is not None for row in minute.nodes)
        measured = memory_share is not None and (
            whole or _memory_measured(minute.nodes) >= (one.size or 0)
        )
    else:
        ratio = bytes_ratio if one.what == "filesystem" else inodes_ratio
        measured = any(ratio(row) is not None for row in _rows_of(one, minute))
    if measured:
        return None
    gone_at = one.gone_at or minute.as_of - timedelta(minutes=1)
    if minute.as_of - gone_at > timedelta(seconds=GONE_SECONDS):
        return None
    return replace(one, gone_at=gone_at)


def _rows_of(one: Condition, minute: Minute) -> list[MinuteRow]:
    return [r for r in minute.filesystems if (r.key.ns, r.key.name) == (one.node, one.name)]
