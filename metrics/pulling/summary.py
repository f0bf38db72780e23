"""The current state of a cluster from one good pull: the sums and names that lists show.

No network and no database: the input is already checked.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from clusters.conditions import Condition
from clusters.node_inventory import SeenNode, Silence
from clusters.status_numbers import NUMBERS, NodeSum
from clusters.status_summary import PullFacts
from metrics.pulling.conditions import (
    Minute,
    conditions_of_minute,
    fill_of,
    judged_filesystems,
    value,
    values_of,
)
from metrics.series.minute_columns import count_at, has_value_at, newest_of, rows_at
from metrics.series.rows import Columns, MinuteRow
from metrics.series.source_answer import SourceAnswer
from metrics.series.windows import MINUTE, utc_datetime
from opscenter.core.ages import skew_seconds

HISTORY_MINUTES = 60
SUMS = tuple(name for name, number in NUMBERS.items() if isinstance(number, NodeSum))


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a pull knows besides the answer.

    Attributes:
        source: kind of the configured source; "" for the agent's own collectors.
        clock_skew_ms: the source's clock minus ours in milliseconds; None if not known.
        recorded: the conditions of the pull before.
        had_numbers: whether the pull before had numbers of any node.
        frozen_at: start of the last minute whose values were new, in Unix seconds, if those since
            then only repeat; None if they do not.
        judge_all_filesystems: whether also small, read-only and loop-mounted filesystems alarm.
    """

    source: str = ""
    clock_skew_ms: int | None = None
    recorded: Sequence[Condition] = ()
    had_numbers: bool = False
    frozen_at: int | None = None
    judge_all_filesystems: bool = False

    @property
    def skew_seconds(self) -> float:
        """Return by how much the source's clock is ahead of ours; 0 for a usual difference."""
        return skew_seconds(self.clock_skew_ms)


def newest_minute(answer: SourceAnswer) -> int | None:
    """Return the start of the newest minute in which any node sent a value; None without one.

    An agent of before sends its nodes without any value when it sees nothing: that is no data. Nor
    is a minute of which the source says that a clock named it that was set since.
    """
    rows = answer.rows
    newest = newest_of(rows, "node")
    if newest is None:
        return None
    if newest not in answer.earlier and has_value_at(rows, "node", newest):
        return newest
    known = (row for row in rows if row.key.kind == "node" and row.ts not in answer.earlier)
    return max((row.ts for row in known if _has_value(row)), default=None)


def pull_facts(answer: SourceAnswer, history: Sequence[int | None], context: Context) -> PullFacts:
    """Return the facts of the newest minute of an answer.

    What is not said is not known: the nodes are counted when the facts are recorded. A filesystem
    without capacity, or without inodes, has no ratio.

    Args:
        answer: the source's answer; without a node's value only what the source says about itself
            is returned.
        history: the result of :func:`cpu_history`, ending with that minute.
        context: what else the pull knows.
    """
    at = newest_minute(answer)
    about: dict[str, Any] = {
        "agent_version": answer.agent_version,
        "kind": answer.kind,
        "clock_skew_ms": context.clock_skew_ms,
        "collector_error": _collector_error(answer),
    }
    if at is None:
        return PullFacts(**about)
    end = at + MINUTE if context.frozen_at is None else min(at, context.frozen_at) + MINUTE
    as_of = utc_datetime(end) - timedelta(seconds=context.skew_seconds)
    nodes = [row for row in rows_at(answer.rows, "node", at) if _has_value(row)]
    judged = judged_filesystems(
        rows_at(answer.rows, "filesystem", at), answer.infos,
        all_of_them=context.judge_all_filesystems,
    )  # fmt: skip
    filesystems = [fill_of(row) for row in judged]
    fs_ratio, fs_name = _fullest((fill.bytes, fill.row) for fill in filesystems)
    inodes_worst, inodes_name = _fullest((fill.inodes, fill.row) for fill in filesystems)
    memory = _share(nodes, "mem_ws", "mem_cap")
    minute = Minute(as_of, nodes, filesystems, answer.infos)
    sums: dict[str, Any] = {name: _sum(nodes, name) for name in SUMS}
    return PullFacts(
        data_as_of=as_of,
        stands_still=context.frozen_at is not None,
        nodes=_seen(nodes, answer),
        lists_nodes=answer.lists_nodes,
        silence=_silence(answer, context.source),
        source=context.source or "agent",
        conditions=[
            *conditions_of_minute(
                minute, memory, answer.collector, context.recorded, had_numbers=context.had_numbers
            ),
            *_notes(answer, context.source, nodes),
        ],
        pods=_pods(answer.rows, nodes, at),
        cpu_share=_share(nodes, "cpu_mc", "cpu_cap_mc"),
        mem_share=memory,
        fs_worst_ratio=fs_ratio,
        fs_worst_name=fs_name,
        inodes_worst_ratio=inodes_worst,
        inodes_worst_name=inodes_name,
        cpu_history=history,
        **about,
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


def _has_value(row: MinuteRow) -> bool:
    return any(cell is not None for cell in row.cells)


def _seen(rows: Iterable[MinuteRow], answer: SourceAnswer) -> list[SeenNode]:
    """Return the nodes, each with why it is not ready, as its attributes say."""
    attrs = {info.key: info.attrs for info in answer.infos if info.key.kind == "node"}
    problems = answer.collector.problems if answer.collector is not None else {}
    seen = []
    for row in rows:
        ready, told = value(row, "ready"), attrs.get(row.key, {})
        detail = told.get("reason") or problems.get(row.key.name, "")
        known = None if ready is None else ready == 1
        seen.append(SeenNode(row.key.name, known, "" if known else detail))
    return seen


def _silence(answer: SourceAnswer, source: str) -> Silence:
    """Return what it means that a node does not say whether it is ready."""
    if answer.collector is not None or answer.kind == "kubernetes":
        return "unknown"
    return "reports" if source else "ready"


def _notes(answer: SourceAnswer, source: str, nodes: Iterable[MinuteRow]) -> list[Condition]:
    """Return what is worth a line beside the state."""
    notes = []
    if not source and answer.collector is None:
        notes.append(Condition(what="agent_outdated"))
    elif source and all(value(row, "ready") is None for row in nodes):
        notes.append(Condition(what="readiness"))
    return notes


def _collector_error(answer: SourceAnswer) -> str:
    """Return why the source sees nothing now; "" if it sees, or does not say."""
    state = answer.collector
    return "" if state is None or state.ok else state.error or "it does not say why"


def _share(rows: Sequence[MinuteRow], part: str, whole: str) -> float | None:
    """Return part / whole, 0..1, over the nodes that have both; None if none has."""
    pairs = zip(values_of(rows, "node", part), values_of(rows, "node", whole), strict=True)
    both = [(a, b) for a, b in pairs if a is not None and b]
    capacity = sum(b for _, b in both)
    return sum(a for a, _ in both) / capacity if capacity > 0 else None


def _sum(rows: Iterable[MinuteRow], field: str) -> int | None:
    """Return the sum over the nodes that have the field; None if none has, or it is too large."""
    values = [found for found in values_of(rows, "node", field) if found is not None]
    total = sum(values)
    return total if values and -(1 << 63) <= total < 1 << 63 else None


def _pods(rows: Sequence[MinuteRow], nodes: Sequence[MinuteRow], at: int) -> int | None:
    """Return how many pods there are; None if the source has no pod data."""
    found = count_at(rows, "pod", at)
    return found if found or _sum(nodes, "pods") is not None else None


def _fullest(ratios: Iterable[tuple[float | None, MinuteRow]]) -> tuple[float | None, str]:
    """Return the highest ratio and the "node mount" that has it; (None, "") if none has one."""
    known = [(ratio, f"{row.key.ns} {row.key.name}") for ratio, row in ratios if ratio is not None]
    return max(known, default=(None, ""))
