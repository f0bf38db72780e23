"""Whether a source repeats old values under new times: uptimes that come again prove it. Pure.

A machine that runs counts its uptime. If all nodes show uptimes that they have had minutes ago,
something between the nodes and us repeats what it once read: a relay, a cache, a dead exporter, a
recording that runs in a loop. An uptime that begins near zero is a reboot and no repetition. The
minute in which an uptime was new for the last time may be true; those after it are not fresh.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from metrics.series.catalog import FIELD_NAMES
from metrics.series.minute_columns import Minutes
from metrics.series.rows import Columns, MinuteRow, SeriesKey
from metrics.series.windows import MINUTE

REPEAT_SECONDS = 3 * MINUTE
"""How many seconds ago a node must have had its uptime for it to be taken for a repetition."""
LOOK_BACK_SECONDS = 30 * MINUTE
"""How much of the stored past is worth comparing with, in seconds: loops of up to 25 minutes."""

_SAME_SECONDS = 1.0  # uptimes closer than this are one
_SPREAD_SECONDS = MINUTE  # samples lie anywhere within their minute
_UPTIME = FIELD_NAMES["node"].index("uptime_s")


Uptimes = Mapping[SeriesKey, Mapping[int, float]]
"""Node -> minute -> the lowest uptime in it, in seconds."""


def newest_uptimes(rows: Sequence[MinuteRow]) -> Uptimes:
    """Return the uptimes of the nodes that have one in the newest minute of all uptimes.

    Args:
        rows: an answer's minutes, of any kinds.
    """
    uptimes = _of_rows(rows)
    newest = max((at for minutes in uptimes.values() for at in minutes), default=0)
    return {key: minutes for key, minutes in uptimes.items() if newest in minutes}


def witness(uptimes: Uptimes) -> SeriesKey | None:
    """Return the node that has run the longest: if it repeats nothing, the source does not.

    Args:
        uptimes: the result of :func:`newest_uptimes`.

    Returns:
        None if no uptime is known.
    """
    return max(uptimes, key=lambda key: (max(uptimes[key].values()), key), default=None)


def frozen_since(uptimes: Uptimes, stored: Mapping[SeriesKey, Columns] | None = None) -> int | None:
    """Return the last minute with new uptimes, in Unix seconds; None if the newest are new.

    Args:
        uptimes: the result of :func:`newest_uptimes`, or a part of it.
        stored: stored minutes of ``uptime_s`` by node, where the answer has only a few minutes;
            None for none.

    Returns:
        None if any node's newest uptime is one that it did not have :data:`REPEAT_SECONDS` ago or
        earlier, or if no uptime is known. Of several nodes the latest such minute.
    """
    since = 0
    for key, minutes in uptimes.items():
        newest = max(minutes)
        known = {**_of_columns((stored or {}).get(key)), **minutes}
        new_at = _last_new([(at, known[at]) for at in sorted(known) if at <= newest])
        if new_at is None:
            return None
        since = max(since, new_at)
    return since or None


def _last_new(minutes: Sequence[tuple[int, float]]) -> int | None:
    """Return when a node's uptime was new for the last time; None if that is the newest minute.

    Args:
        minutes: (minute, uptime in seconds), ascending, not empty.
    """
    run = _since_boot(minutes)
    newest, uptime = run[-1]
    if not _was_passed(uptime, [one for one in run if one[0] <= newest - REPEAT_SECONDS]):
        return None
    highest = max(uptime for _, uptime in run)
    return next(at for at, uptime in run if uptime > highest - _SAME_SECONDS)


def _since_boot(minutes: Sequence[tuple[int, float]]) -> Sequence[tuple[int, float]]:
    """Return the minutes since the last fall that a reboot explains.

    An uptime that falls to more than the time that has passed was not counted by a machine.
    """
    first = 0
    for number, ((before, high), (at, low)) in enumerate(pairwise(minutes), start=1):
        if low <= high - _SAME_SECONDS and low <= at - before + _SPREAD_SECONDS:
            first = number
    return minutes[first:]


def _was_passed(uptime: float, minutes: Sequence[tuple[int, float]]) -> bool:
    """Return whether a node had an uptime in one of these minutes, or between two of them.

    Two that no machine counts one after the other, as of two machines of one name, have nothing
    in between.
    """
    if any(-_SAME_SECONDS < uptime - low < _SPREAD_SECONDS for _, low in minutes):
        return True
    return any(
        low <= uptime <= high <= low + (at - before) + _SPREAD_SECONDS
        for (before, low), (at, high) in pairwise(minutes)
    )


def _of_rows(rows: Sequence[MinuteRow]) -> dict[SeriesKey, dict[int, float]]:
    """Return node -> minute -> lowest uptime in seconds: a mean over a reboot is none."""
    found: dict[SeriesKey, dict[int, float]] = {}
    if not isinstance(rows, Minutes):
        for row in rows:
            cell = row.cells[_UPTIME] if row.key.kind == "node" else None
            if cell is not None:
                found.setdefault(row.key, {})[row.ts] = _lowest(cell.n, cell.total, cell.low)
        return found
    for table in rows.tables:
        column = table.columns[_UPTIME] if table.kind == "node" else None
        if column is None:
            continue
        cells = zip(column.n, column.total, column.low, strict=True)
        for at, series, (n, total, low) in zip(table.times, table.series, cells, strict=True):
            if total is not None and n:
                found.setdefault(table.keys[series], {})[at] = _lowest(n, total, low)
    return found


def _of_columns(columns: Columns | None) -> dict[int, float]:
    if columns is None:
        return {}
    cells = zip(columns.t, columns.n, columns.total, columns.low, strict=True)
    return {at: _lowest(n, total, low) for at, n, total, low in cells}


def _lowest(n: int, total: int, low: int | None) -> float:
    return total / n if low is None else low
