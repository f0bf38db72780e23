"""Single values from our own agent: its spool keeps minutes, which are its finest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metrics.series.catalog import FIELD_NAMES
from metrics.series.rows import SeriesKey
from metrics.sources.base import JsonClient, RawAnswer
from metrics.sources.parse_concurrency import Turn

if TYPE_CHECKING:
    from metrics.sources.agent import AgentSource

MINUTE = 60


async def agent_raw(
    source: AgentSource,
    client: JsonClient,
    key: SeriesKey,
    field: str,
    start: int,
    end: int,
    *,
    now: float,
) -> RawAnswer:
    """Return the agent's minutes of one field of one series; see :class:`.base.RawSource`."""
    at = FIELD_NAMES[key.kind].index(field)
    first, last = start - start % MINUTE, end + -end % MINUTE
    with Turn("live") as turn:
        answer = await source.fetch(client, first, last, now=now, turn=turn, kind=key.kind)
    cells = [(row.ts, row.cells[at]) for row in answer.rows if row.key == key]
    known = [(ts, cell.total / cell.n) for ts, cell in cells if cell is not None]
    note = "the agent keeps the mean of its samples of each minute"
    return RawAnswer([ts for ts, _ in known], [value for _, value in known], MINUTE, note)
