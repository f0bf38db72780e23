"""The ``agent`` source: minutes from the spool of our own agent, ``GET /v1/range``."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, cast

from metrics.series.catalog import FIELD_NAMES, Kind
from metrics.series.minute_columns import Minutes
from metrics.series.rows import SeriesInfo, SeriesKey
from metrics.series.source_answer import SourceAnswer
from metrics.series.windows import DAY, MINUTE
from metrics.sources.agent.responses import MAX_ROWS, MAX_SERIES, parse_answer
from metrics.sources.base import JsonClient, RawAnswer, Resolution
from metrics.sources.parse_concurrency import ParseSlot
from opscenter.core.errors import ClusterUnreachableError, ServiceUnavailableError

logger = logging.getLogger(__name__)

MAX_PIECES = 64  # answers of one fetch


@dataclass(slots=True)
class _Pieces:
    """The answers of one fetch, one after another."""

    rows: list[Minutes] = field(default_factory=list)
    infos: dict[SeriesKey, SeriesInfo] = field(default_factory=dict)
    alive: set[int] = field(default_factory=set)
    failed: dict[int, str] = field(default_factory=dict)
    clock_steps: dict[tuple[int, float, float], None] = field(default_factory=dict)
    earlier: set[int] = field(default_factory=set)
    count: int = 0  # of rows
    ignored: int = 0

    def add(self, piece: SourceAnswer) -> None:
        self.rows.append(cast("Minutes", piece.rows))
        self.count += len(piece.rows)
        self.infos.update((info.key, info) for info in piece.infos)
        self.alive |= piece.minutes_alive
        self.failed |= piece.failed
        self.clock_steps |= dict.fromkeys(piece.clock_steps)
        self.earlier |= piece.earlier
        self.ignored += piece.ignored

    @property
    def full(self) -> bool:
        return self.count >= MAX_ROWS or len(self.infos) >= MAX_SERIES

    def joined(self, start: int, last: SourceAnswer) -> SourceAnswer:
        """Return the pieces as one answer from ``start`` to the end of the last one."""
        return replace(
            last,
            rows=Minutes.joined(self.rows),
            infos=list(self.infos.values()),
            start=start,
            minutes_alive=frozenset(self.alive),
            ignored=self.ignored,
            failed=self.failed,
            clock_steps=list(self.clock_steps),
            earlier=frozenset(self.earlier),
        )


class AgentSource:
    """Reads a window from an agent, in pieces where one answer does not hold it.

    Args:
        budget_seconds: no further piece is requested after this many seconds, so that what was read
            is stored before the caller's deadline.
    """

    # The agent serves a minute once its last sample is in, 2 s after its end. Requesting it again,
    # to be safe, would double or triple the cost of a pull at both ends.
    overlap_seconds: ClassVar[int] = 0
    settle_seconds: ClassVar[int] = 0
    longest_request_seconds: ClassVar[int] = 1800
    resolutions: ClassVar[Sequence[Resolution]] = (Resolution(MINUTE, 7 * DAY, "1m"),)

    def __init__(self, *, budget_seconds: float = 10.0) -> None:
        self._budget_seconds = budget_seconds

    async def fetch(
        self,
        client: JsonClient,
        start: int,
        end: int,
        *,
        now: float,
        slot: ParseSlot,
        kind: Kind | None = None,
    ) -> SourceAnswer:
        """Return what the agent has of ``[start, end)``; see :class:`metrics.sources.base.Source`.

        Returns only series of ``kind`` if it is given.

        Continues where an answer ended, until the window is covered, the agent makes no progress,
        or :data:`MAX_PIECES` answers or :data:`MAX_ROWS` rows are in. When the connection to the
        agent fails after the first piece, the pieces so far are the answer.

        Raises:
            ClusterError: the first request failed.
            BadResponseError: an answer is not what the agent's API promises.
        """
        clock = asyncio.get_running_loop().time
        stop_at = clock() + self._budget_seconds
        pieces, reached = _Pieces(), start
        for _ in range(MAX_PIECES):
            slot.release()
            params = {"start": str(reached), "end": str(end)} | ({"kinds": kind} if kind else {})
            try:
                raw = await client.get_json("/v1/range", params, before_parsing=slot.acquire)
            except (ClusterUnreachableError, ServiceUnavailableError) as exc:
                if reached == start:
                    raise
                logger.info("the range was cut at %s: %s", reached, exc)
                break
            piece = parse_answer(raw, reached, end, now=now)
            del raw  # as large as the rows
            pieces.add(piece)
            stuck, reached = piece.end == reached, piece.end
            if stuck or pieces.full or reached >= end or clock() >= stop_at:
                break
        return pieces.joined(start, piece)

    async def raw(
        self, client: JsonClient, key: SeriesKey, field: str, start: int, end: int, *, now: float
    ) -> RawAnswer:
        """Return minutes of one series, the agent's finest step; see :class:`.base.RawSource`."""
        at = FIELD_NAMES[key.kind].index(field)
        first, last = start - start % MINUTE, end + -end % MINUTE
        with ParseSlot("live") as slot:
            answer = await self.fetch(client, first, last, now=now, slot=slot, kind=key.kind)
        cells = [(row.ts, row.cells[at]) for row in answer.rows if row.key == key]
        known = [(ts, cell.total / cell.n) for ts, cell in cells if cell is not None]
        note = "the agent keeps the mean of its samples of each minute"
        return RawAnswer([ts for ts, _ in known], [value for _, value in known], MINUTE, note)
