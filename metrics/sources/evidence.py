"""Which minutes of an answer hold evidence: at least one value. Pure.

A minute that names nodes and has no value of anything is no data: whoever sent it saw nothing.
Every answer of every kind of source passes :func:`with_evidence_only`, after its values were
judged, so that such a minute is neither shown as new nor counted as stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from metrics.series.minute_columns import FieldColumn, Minutes, MinuteTable
from metrics.series.rows import MinuteRow
from metrics.series.source_answer import SourceAnswer

OLD_AGENT = "the agent saw nothing; it is too old to say why"
NO_VALUES = "the source named nodes, but had no value of anything"


def with_evidence_only(answer: SourceAnswer, *, is_agent: bool) -> SourceAnswer:
    """Return the answer without the minutes that have no value; they are in ``failed`` then.

    Args:
        answer: a source's answer, checked.
        is_agent: whether it is our agent's.

    Returns:
        The same object if every minute has a value.
    """
    if answer.coarse:
        return answer
    named, seen = _minutes(answer.rows)
    blind = (named | answer.minutes_alive) - seen
    if not blind:
        return answer
    why = NO_VALUES
    if is_agent:
        why = OLD_AGENT if answer.collector is None else answer.collector.error or NO_VALUES
    return replace(
        answer,
        rows=_without(answer.rows, blind),
        minutes_alive=answer.minutes_alive - blind,
        failed={**dict.fromkeys(blind, why), **answer.failed},
    )


def _minutes(rows: Sequence[MinuteRow]) -> tuple[set[int], set[int]]:
    """Return the minutes of all rows, and those of rows that have a value."""
    if not isinstance(rows, Minutes):
        seen = {row.ts for row in rows if any(cell is not None for cell in row.cells)}
        return {row.ts for row in rows}, seen
    named: set[int] = set()
    seen = set()
    for table in rows.tables:
        times = set(table.times)
        named |= times
        if not times <= seen:
            seen |= _seen_in(table, times)
    return named, seen


def _seen_in(table: MinuteTable, times: set[int]) -> set[int]:
    """Return the minutes of a table's rows that have a value; a full column ends the search."""
    seen: set[int] = set()
    for column in table.columns:
        if column is None:
            continue
        if None not in column.n:
            return times
        seen.update(t for t, n in zip(table.times, column.n, strict=True) if n is not None)
        if len(seen) == len(times):
            break
    return seen


def _without(rows: Sequence[MinuteRow], blind: set[int]) -> Sequence[MinuteRow]:
    if not isinstance(rows, Minutes):
        return [row for row in rows if row.ts not in blind]
    return Minutes(
        table if blind.isdisjoint(table.times) else _table_without(table, blind)
        for table in rows.tables
    )


def _table_without(table: MinuteTable, blind: set[int]) -> MinuteTable:
    kept = [at for at, time in enumerate(table.times) if time not in blind]

    def of(column: Sequence[int | None]) -> list[int | None]:
        return [column[at] for at in kept]

    return replace(
        table,
        times=[table.times[at] for at in kept],
        series=[table.series[at] for at in kept],
        columns=[c and FieldColumn(*(of(part) for part in c)) for c in table.columns],
    )
