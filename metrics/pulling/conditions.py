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
from metrics.series.catalog import FIELD_NAMES, Kind
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
_PLACES = {kind: {name: at for at, name in enumerate(names)} for kind, names in FIELD_NAMES.items()}


@dataclass(frozen=True, slots=True)
class Fill:
    """How full one filesystem is in one minute.

    Attributes:
        row: its minute.
        bytes: which part of its bytes is in use, 0..1; None without a capacity.
        inodes: which part of its inodes is in use, 0..1; None if it has none.
    """

    row: MinuteRow
    bytes: float | None
    inodes: float | None


@dataclass(frozen=True, slots=True)
class Minute:
    """The newest minute of an answer.

    Attributes:
        as_of: its end, by our clock.
        nodes: its rows of nodes.
        filesystems: those that are judged, see :func:`judged_filesystems`.
        infos: what else is known of each series.
    """

    as_of: datetime
    nodes: Sequence[MinuteRow]
    filesystems: Sequence[Fill]
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
    cell = row.cells[_PLACES[row.key.kind][field]]
    return None if cell is None else rounded_mean(cell.total, cell.n)


def values_of(rows: Iterable[MinuteRow], kind: Kind, field: str) -> list[int | None]:
    """Return the means of one field, one for each row; as :func:`value`, for many rows at once.

    Args:
        rows: rows of one kind.
        kind: their kind.
        field: a field of the kind.
    """
    at = _PLACES[kind][field]
    cells = [row.cells[at] for row in rows]
    return [None if cell is None else rounded_mean(cell.total, cell.n) for cell in cells]


def fill_of(row: MinuteRow) -> Fill:
    """Return how full a filesystem is."""
    return Fill(row, _bytes_ratio(row), _inodes_ratio(row))


def _bytes_ratio(row: MinuteRow) -> float | None:
    used, cap = value(row, "used"), value(row, "cap")
    return None if used is None or not cap or cap < 0 else min(1.0, max(0.0, used / cap))


def _inodes_ratio(row: MinuteRow) -> float | None:
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


def _filesystems(fills: Iterable[Fill]) -> Iterable[Condition]:
    for fill in fills:
        row = fill.row
        if fill.bytes is not None and fill.bytes >= FILESYSTEM_DEGRADED:
            yield _of_filesystem("filesystem", row, fill.bytes, value(row, "cap"))
        if fill.inodes is not None and fill.inodes >= INODES_DEGRADED:
            yield _of_filesystem("inodes", row, fill.inodes, None)


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
        fills = _fills_of(one, minute)
        ratios = [fill.bytes if one.what == "filesystem" else fill.inodes for fill in fills]
        measured = any(ratio is not None for ratio in ratios)
    if measured:
        return None
    gone_at = one.gone_at or minute.as_of - timedelta(minutes=1)
    if minute.as_of - gone_at > timedelta(seconds=GONE_SECONDS):
        return None
    return replace(one, gone_at=gone_at)


def _fills_of(one: Condition, minute: Minute) -> list[Fill]:
    keys = ((fill, fill.row.key) for fill in minute.filesystems)
    return [fill for fill, key in keys if (key.ns, key.name) == (one.node, one.name)]
