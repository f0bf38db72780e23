"""Whether a source repeats old values under new times: uptimes that stand still prove it. Pure.

A machine that runs counts its uptime. If the uptimes of all nodes stay the same while minutes go
on, something between the nodes and us repeats what it once read: a relay, a cache, a dead exporter.
The first minute of the standstill may be true; those after it are not fresh.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from metrics.series.catalog import FIELD_NAMES
from metrics.series.minute_columns import Minutes
from metrics.series.rows import Columns, MinuteRow, SeriesKey
from metrics.series.windows import MINUTE

STANDSTILL_SECONDS = 3 * MINUTE
"""Seconds of standing still from which on values are taken for frozen."""
LOOK_BACK_SECONDS = 600
"""How much of the stored past is worth comparing with, in seconds."""

_SAME_SECONDS = 1.0  # uptimes closer than this are one
_UPTIME = FIELD_NAMES["node"].index("uptime_s")


def frozen_since(
    rows: Sequence[MinuteRow], stored: Mapping[SeriesKey, Columns] | None = None
) -> int | None:
    """Return the first minute from which the uptime of every node stands still, in Unix seconds.

    Args:
        rows: an answer's minutes, of any kinds.
        stored: stored minutes of ``uptime_s`` by node, where the answer has only a few minutes;
            None for none.

    Returns:
        None if any node's uptime changes, if a node has only its newest minute, if none is known,
        or if it stands still for less than :data:`STANDSTILL_SECONDS`.
    """
    uptimes = _of_rows(rows)
    newest = max((at for minutes in uptimes.values() for at in minutes), default=None)
    if newest is None:
        return None
    since = 0
    for key, minutes in uptimes.items():
        if newest in minutes:
            before = _of_columns((stored or {}).get(key))
            since = max(since, _standstill({**before, **minutes}, newest))
    return since if newest - since >= STANDSTILL_SECONDS else None


def is_moving(rows: Sequence[MinuteRow], since: int) -> bool:
    """Return whether the uptime of any node changes within an answer.

    Args:
        rows: an answer's minutes, of any kinds.
        since: the first minute that counts, in Unix seconds.
    """
    return any(
        len({uptime for at, uptime in minutes.items() if at >= since}) > 1
        for minutes in _of_rows(rows).values()
    )


def _standstill(minutes: Mapping[int, float], newest: int) -> int:
    """Return the first of the unbroken minutes up to the newest that have its uptime."""
    first = newest
    for at in sorted(minutes, reverse=True):
        if at <= newest:
            if abs(minutes[at] - minutes[newest]) >= _SAME_SECONDS:
                break
            first = at
    return first


def _of_rows(rows: Sequence[MinuteRow]) -> dict[SeriesKey, dict[int, float]]:
    """Return node -> minute -> mean uptime in seconds."""
    found: dict[SeriesKey, dict[int, float]] = {}
    if not isinstance(rows, Minutes):
        for row in rows:
            cell = row.cells[_UPTIME] if row.key.kind == "node" else None
            if cell is not None:
                found.setdefault(row.key, {})[row.ts] = cell.total / cell.n
        return found
    for table in rows.tables:
        column = table.columns[_UPTIME] if table.kind == "node" else None
        if column is None:
            continue
        entries = zip(table.times, table.series, column.total, column.n, strict=True)
        for at, series, total, n in entries:
            if total is not None and n:
                found.setdefault(table.keys[series], {})[at] = total / n
    return found


def _of_columns(columns: Columns | None) -> dict[int, float]:
    if columns is None:
        return {}
    entries = zip(columns.t, columns.total, columns.n, strict=True)
    return {at: total / n for at, total, n in entries}
