"""The current state of a cluster from one good pull: the sums and names that lists show.

No network and no database: the input is already checked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from clusters.status_numbers import NUMBERS, NodeSum
from clusters.status_summary import MAX_NODES_NAMED, PullFacts
from metrics.series.catalog import FIELD_NAMES, Kind
from metrics.series.minute_columns import count_at, newest_of, rows_at
from metrics.series.rollups import rounded_mean
from metrics.series.rows import Columns, MinuteRow
from metrics.series.source_answer import SourceAnswer
from metrics.series.windows import MINUTE, utc_datetime

HISTORY_MINUTES = 60
SUMS = tuple(name for name, number in NUMBERS.items() if isinstance(number, NodeSum))
_AT = {kind: {name: at for at, name in enumerate(names)} for kind, names in FIELD_NAMES.items()}


def newest_minute(rows: Sequence[MinuteRow]) -> int | None:
    """Return the start of the newest minute in which any node reported; None without one."""
    return newest_of(rows, "node")


def pull_facts(
    answer: SourceAnswer, history: Sequence[int | None], clock_skew_ms: int | None
) -> PullFacts:
    """Return the facts of the newest minute of an answer.

    A node that does not report whether it is ready counts as ready, because it reports. A
    filesystem without capacity, or without inodes, has no ratio.

    Args:
        answer: the source's answer; without a node's row only the agent's own facts are returned.
        history: the result of :func:`cpu_history`, ending with that minute.
        clock_skew_ms: the agent's clock minus ours in milliseconds; None if not known.
    """
    at = newest_minute(answer.rows)
    if at is None:
        return PullFacts(
            agent_version=answer.agent_version, kind=answer.kind, clock_skew_ms=clock_skew_ms
        )
    nodes = rows_at(answer.rows, "node", at)
    filesystems = rows_at(answer.rows, "filesystem", at)
    not_ready = sorted(row.key.name for row in nodes if _mean(row, "ready") == 0)
    fs_ratio, fs_name = _fullest(filesystems, _bytes_ratio)
    inodes_ratio, inodes_name = _fullest(filesystems, _inodes_ratio)
    sums: dict[str, Any] = {name: _sum(nodes, name) for name in SUMS}
    return PullFacts(
        data_as_of=utc_datetime(at + MINUTE),
        agent_version=answer.agent_version,
        kind=answer.kind,
        clock_skew_ms=clock_skew_ms,
        nodes_ready=len(nodes) - len(not_ready),
        nodes_total=len(nodes),
        nodes_not_ready=not_ready[:MAX_NODES_NAMED],
        pods=_pods(answer.rows, nodes, at),
        fs_worst_ratio=fs_ratio,
        fs_worst_name=fs_name,
        inodes_worst_ratio=inodes_ratio,
        inodes_worst_name=inodes_name,
        cpu_history=history,
        **sums,
    )


def cpu_history(used: Columns, capacity: Columns, end: int) -> list[int | None]:
    """Return the cluster's CPU usage in permille of its capacity for the hour before ``end``.

    Args:
        used: minutes of ``cpu_mc``, in millicores.
        capacity: minutes of ``cpu_cap_mc``, in millicores.
        end: end of the hour in Unix seconds, minute aligned.

    Returns:
        :data:`HISTORY_MINUTES` entries; None where a minute or its capacity is missing.
    """
    have = dict(zip(used.t, used.total, strict=True))
    caps = dict(zip(capacity.t, capacity.total, strict=True))
    history: list[int | None] = []
    for minute in range(end - HISTORY_MINUTES * MINUTE, end, MINUTE):
        cpu, cap = have.get(minute), caps.get(minute)
        history.append(None if cpu is None or not cap or cap < 0 else round(1000 * cpu / cap))
    return history


def _mean(row: MinuteRow, field: str) -> int | None:
    cell = row.cells[_AT[_kind(row)][field]]
    return None if cell is None else rounded_mean(cell.total, cell.n)


def _kind(row: MinuteRow) -> Kind:
    return row.key.kind


def _sum(rows: Iterable[MinuteRow], field: str) -> int | None:
    """Return the sum over the rows that have the field; None if none has, or it is too large."""
    values = [value for row in rows if (value := _mean(row, field)) is not None]
    total = sum(values)
    return total if values and -(1 << 63) <= total < 1 << 63 else None


def _pods(rows: Sequence[MinuteRow], nodes: Sequence[MinuteRow], at: int) -> int | None:
    """Return how many pods there are; None if the source has no pod data."""
    found = count_at(rows, "pod", at)
    return found if found or _sum(nodes, "pods") is not None else None


def _bytes_ratio(row: MinuteRow) -> float | None:
    used, cap = _mean(row, "used"), _mean(row, "cap")
    return None if used is None or not cap or cap < 0 else min(1.0, max(0.0, used / cap))


def _inodes_ratio(row: MinuteRow) -> float | None:
    free, total = _mean(row, "inodes_free"), _mean(row, "inodes_total")
    if free is None or not total or total < 0:
        return None
    return min(1.0, max(0.0, 1 - free / total))


def _fullest(
    rows: Iterable[MinuteRow], ratio: Callable[[MinuteRow], float | None]
) -> tuple[float | None, str]:
    """Return the highest ratio and the "node mount" that has it; (None, "") if none has one."""
    known = [
        (value, f"{row.key.ns} {row.key.name}") for row in rows if (value := ratio(row)) is not None
    ]
    return max(known, default=(None, ""))
