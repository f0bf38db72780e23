"""The ``prometheus`` source: minutes from Prometheus or VictoriaMetrics, ``/api/v1/query_range``.

A minute ``[t, t + 60)`` is the server's value at its end, ``t + 60``, aligned to the minute, so
that repeated requests give the same minutes. The queries are in
:mod:`metrics.sources.prometheus.queries`, the checks of an answer in
:mod:`metrics.sources.prometheus.responses`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Sequence
from typing import ClassVar

from metrics.series.rows import MinuteRow, SeriesInfo, SeriesKey
from metrics.series.source_answer import CollectorState, SourceAnswer
from metrics.series.windows import HOUR, MINUTE
from metrics.sources.base import HttpClient, Probe, RawAnswer, Resolution
from metrics.sources.parse_concurrency import ParseSlot
from metrics.sources.prometheus.batches import MAX_SERIES, Plan
from metrics.sources.prometheus.client import PrometheusApi
from metrics.sources.prometheus.node_names import Facts
from metrics.sources.prometheus.probe import probe_server
from metrics.sources.prometheus.queries import targets_expr
from metrics.sources.prometheus.raw import prometheus_raw
from metrics.sources.prometheus.responses import read_matrix, refuse
from metrics.sources.prometheus.rows import Slice
from opscenter.core.errors import (
    BadResponseError,
    ClusterError,
    ClusterUnreachableError,
    ServiceUnavailableError,
)

logger = logging.getLogger(__name__)

MAX_ROWS = 400_000  # of one fetch; the next one reads the rest of the window
OPEN_SECONDS = 15  # after its end, until a minute's last scrape is in
OLDEST_FOR_SECONDS = 300  # shorter windows are live pulls, which do not need it each time
_SHOWN = 5
# A server answers a query that is too large for it with 400 or 422 and one of these.
_TOO_MUCH = ("too many", "exceed", "cannot select more", "hit the max")


class PrometheusSource:
    """Reads a window from a Prometheus, or a compatible server, slice by slice.

    Args:
        reach_seconds: how long the server keeps its data in seconds, from its probe; None if not
            known.
        budget_seconds: no further slice is requested after this many seconds, so that what was
            read is stored before the caller's deadline.
        max_bytes: the largest decoded answer that the client accepts, in bytes.
    """

    # A minute is requested once its scrapes are in. The minute before is requested again, for data
    # that came a little late, e.g. by remote write.
    overlap_seconds: ClassVar[int] = 60
    settle_seconds: ClassVar[int] = 45
    longest_request_seconds: ClassVar[int] = 6 * HOUR

    def __init__(
        self,
        *,
        reach_seconds: int | None = None,
        budget_seconds: float = 10.0,
        max_bytes: int = 8_000_000,
    ) -> None:
        self._reach_seconds = reach_seconds
        self._budget_seconds = budget_seconds
        self._max_bytes = max_bytes

    @property
    def resolutions(self) -> Sequence[Resolution]:
        """Return a single resolution: Prometheus keeps everything as it was scraped."""
        return (Resolution(MINUTE, self._reach_seconds, "1m"),)

    async def fetch(
        self,
        client: HttpClient,
        start: int,
        end: int,
        *,
        now: float,  # noqa: ARG002 - the protocol's: the server is judged by its own clock
        slot: ParseSlot,
    ) -> SourceAnswer:
        """Return what the server has of ``[start, end)``.

        The answer ends early when the time is up, enough rows are in, or the connection to the
        server fails after the first slice.

        Raises:
            ClusterError: nothing is known about the window.
            BadResponseError: an answer is refused as a whole; ``problem`` says why.
        """
        api = PrometheusApi(client, slot)
        clock = await api.clock()
        ours = asyncio.get_running_loop().time
        clock_read_at = ours()
        facts = await api.facts(start, end)
        limit = int(clock - OPEN_SECONDS) // MINUTE * MINUTE
        # First, because the connection may fail later, and the answer is then what was read so far.
        long = end - start > OLDEST_FOR_SECONDS
        oldest = await api.oldest(clock) if long else None
        window = _Window(api, facts, Plan(self._max_bytes, pods=len(facts.pods)))
        await window.read(start, max(start, min(end, limit)), seconds=self._budget_seconds)
        answered_at = ours()
        rows = window.rows
        if rows and not long:
            oldest = start
            if rows[0].ts > start:  # it was away, or has no more
                with contextlib.suppress(ClusterError):
                    oldest = await api.oldest(clock)
        slot.acquire()
        return SourceAnswer(
            rows=rows,
            infos=list(window.infos.values()),
            start=start,
            end=window.reached,
            oldest=oldest,
            newest_end=rows[-1].ts + MINUTE if rows else None,
            now=clock + answered_at - clock_read_at,
            agent_version="",
            kind=("kubernetes" if facts.kubernetes else "host") if rows else "",
            minutes_alive=frozenset(row.ts for row in rows),
            notes=_notes(facts, window),
            # Not the targets of ``up``: service discovery drops a machine that died, as it drops
            # one that was removed. One that is still configured is listed, with ready 0.
            lists_nodes=facts.lists_nodes,
            collector=_blind_to_nodes(clock) if _is_silent(facts, window) else None,
            refused=window.refused,
        )

    async def probe(self, client: HttpClient, *, now: float) -> Probe:
        """Return what the server has, and why anything is missing.

        Raises:
            ClusterError: it does not answer, refuses, or is not a Prometheus.
        """
        with ParseSlot("live") as slot:
            api = PrometheusApi(client, slot)
            clock = await api.clock()
            end = int(clock - self.settle_seconds) // MINUTE * MINUTE
            answer = await self.fetch(client, end - MINUTE, end, now=now, slot=slot)
            return await probe_server(client, api, answer, clock=clock)

    async def raw(
        self,
        client: HttpClient,
        key: SeriesKey,
        field: str,
        start: int,
        end: int,
        *,
        now: float,  # noqa: ARG002 - the protocol's
    ) -> RawAnswer:
        """Return one series at the scrape interval; see :class:`.base.RawSource`."""
        return await prometheus_raw(client, key, field, start, end)


class _Window:
    """Reads a window in slices that are as large as the cap on answers allows."""

    def __init__(self, api: PrometheusApi, facts: Facts, plan: Plan) -> None:
        self._api = api
        self._facts = facts
        self._plan = plan
        self.rows: list[MinuteRow] = []
        self.infos: dict[SeriesKey, SeriesInfo] = {}
        self.disowned: set[str] = set()
        self.refused: Counter[str] = Counter()
        self.reached = 0

    async def read(self, start: int, end: int, *, seconds: float) -> None:
        """Read ``[start, end)``, or as much of it as possible.

        Raises:
            ClusterError: not even the first slice could be read, or an answer is refused.
        """
        clock = asyncio.get_running_loop().time
        stop_at = clock() + seconds
        self.reached = start
        while self.reached < end:
            points = min((end - self.reached) // MINUTE, self._plan.points)
            try:
                await self._read_slice(points)
            except (ClusterUnreachableError, ServiceUnavailableError) as exc:
                if self.reached == start:
                    raise
                logger.info("the window was cut at %s: %s", self.reached, exc)
                break
            except BadResponseError as exc:
                if not _is_too_much(exc):
                    raise
                if not self._plan.shrink():
                    msg = f"one field of one minute is too much: {exc}"
                    raise BadResponseError(msg, problem="too_many_series") from exc
                continue
            if clock() >= stop_at or len(self.rows) >= MAX_ROWS:
                break

    async def _read_slice(self, points: int) -> None:
        """Read the next minutes, all fields of them, or nothing."""
        times = range(self.reached, self.reached + points * MINUTE, MINUTE)
        moments = range(times[0] + MINUTE, times[-1] + 2 * MINUTE, MINUTE)
        piece = Slice(times, self._facts)
        targets = targets_expr(self._facts.jobs)
        for numbers in self._plan.requests(points):
            raw = await self._api.matrix(numbers, moments[0], moments[-1], targets=targets)
            targets = ""  # once is enough
            most = MAX_SERIES * (len(numbers) + 1) + 1
            piece.add(read_matrix(raw, moments, most=most), frozenset(numbers))
            del raw  # as large as the rows
        rows, infos = piece.finish()
        self.infos.update((info.key, info) for info in infos)
        if len(self.infos) > MAX_SERIES:
            refuse(f"more than {MAX_SERIES} series in one window", "too_many_series")
        self.rows += rows
        self.disowned |= piece.disowned
        self.refused += piece.refused
        self._plan.learn(infos)
        self.reached = times[-1] + MINUTE


def _is_too_much(error: BadResponseError) -> bool:
    if error.problem in ("too_large", "too_many_series"):
        return error.problem == "too_large"
    text = str(error).lower()
    return error.status in (400, 422) and any(words in text for words in _TOO_MUCH)


def _is_silent(facts: Facts, window: _Window) -> bool:
    """Return whether Kubernetes' word on its nodes is missing while others still report."""
    return facts.kubernetes and not facts.says_ready and bool(window.rows)


def _blind_to_nodes(clock: float) -> CollectorState:
    problems = {"kube-state-metrics": "it is away: whether nodes are ready is not known"}
    return CollectorState(ok=True, error="", last_at=clock, problems=problems)


def _notes(facts: Facts, window: _Window) -> list[str]:
    notes = []
    if _is_silent(facts, window):
        notes.append("kube-state-metrics is away: whether nodes are ready is not known")
    if window.disowned:
        notes.append(
            "another node has the address of these now, which are not ready, and their values: "
            f"{_some(window.disowned)}"
        )
    if facts.unknown_nodes:
        notes.append(f"left out, on no node of the cluster: {_some(facts.unknown_nodes)}")
    return notes


def _some(names: set[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{', '.join(sorted(names)[:_SHOWN])}{more}"
