"""Fetching one window from an InfluxDB 1.x, in as many answers as needed."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from metrics.series.catalog import TIERS, Kind
from metrics.series.minute_columns import Minutes
from metrics.series.source_answer import SourceAnswer
from metrics.series.windows import MINUTE
from metrics.sources.filesystem_sums import sum_filesystems
from metrics.sources.influxdb1.client import InfluxApi, StoredPolicy
from metrics.sources.influxdb1.queries import (
    COARSE,
    MINUTES,
    RAW,
    SAMPLES,
    Policy,
    Series,
    columns_of,
    edge,
    identifier,
    select,
)
from metrics.sources.influxdb1.responses import (
    Points,
    Span,
    put_points,
    read_edge,
    read_points,
    read_policies,
)
from metrics.sources.influxdb1.rollups import put_rollups, widen
from metrics.sources.row_builder import MASK, SHIFT, Table, count_pods
from opscenter.core.errors import (
    BadResponseError,
    ClusterUnreachableError,
    ServiceUnavailableError,
)

logger = logging.getLogger(__name__)

SETTLE_SECONDS = 90
MAX_POINTS = 1_500_000  # of one fetch; the next one reads the rest of the window
MAX_PIECES = 256  # answers of one fetch
FIRST_PIECE = 600  # seconds of a long window that are requested first, to see how much comes
SHORT = 300  # seconds up to which names in every point are shorter than one per series
LATE_SECONDS = 300  # a missing minute that is this old will not come
TARGET_BYTES = 4_000_000  # of one answer, decoded; the client refuses twice as much
_SERIES_BYTES, _POINT_BYTES, _NAMED_POINT_BYTES = 220, 24, 110


@dataclass(slots=True)
class Fetch:
    """One window that is being fetched."""

    api: InfluxApi
    start: int
    end: int
    now: float
    tables: dict[Kind, Table] = field(
        default_factory=lambda: {kind: Table(kind) for kind in ("node", "filesystem", "pod")}
    )
    samples: Table = field(default_factory=lambda: Table("node"))
    notes: list[str] = field(default_factory=list)
    points: int = 0
    oldest: int | None = None
    newest_end: int | None = None

    async def minutes(self, policies: Sequence[StoredPolicy] | None) -> SourceAnswer:
        """Fetch minutes."""
        reached = await self._pieces(RAW, self.start, self.end, edges=policies is None)
        if policies:
            self.oldest = min(one.begins for one in policies)
        clock = self.api.clock(self.now)
        covered = min(reached, self._closed(clock))
        _join_samples(self.tables["node"], self.samples)
        sum_filesystems(self.tables["filesystem"], self.tables["node"])
        count_pods(self.tables["pod"], self.tables["node"])
        rows = Minutes(table.minutes(covered) for table in self.tables.values())
        alive = frozenset(time for table in rows.tables for time in table.times)
        return self._answer(rows=rows, end=max(self.start, covered), minutes_alive=alive)

    async def rollups(
        self, policy: Policy, until: int, policies: Sequence[StoredPolicy]
    ) -> SourceAnswer:
        """Fetch a policy's values up to ``until``, in complete buckets of its tier."""
        width = TIERS[policy.tier]
        begin, stop = self.start - self.start % width, until + -until % width
        reached = min(until, await self._pieces(policy, begin, stop, edges=False))
        closed = int(self.api.clock(self.now) - LATE_SECONDS - policy.step)
        reached = min(reached, closed - closed % width)
        self.oldest = min(one.begins for one in policies)
        self.notes.append(
            f"{policy.step // MINUTE}-minute values of {policy.name!r}: lowest values are not "
            "known, and for filesystems only the highest, which stand for the mean"
        )
        nodes = self.tables["node"]
        sum_filesystems(self.tables["filesystem"], nodes)
        starts = range(0, policy.step, MINUTE)
        alive = {time + more for t in self.tables.values() for time in t.times() for more in starts}
        for table in self.tables.values():
            widen(table, policy.tier)
        rows = [row for table in self.tables.values() for row in table.coarse_rows(policy.tier)]
        return self._answer(
            coarse=sorted(rows, key=lambda row: row.ts),
            end=max(self.start, reached),
            resolution=policy.step,
            minutes_alive=frozenset(m for m in alive if self.start <= m < reached),
        )

    def _answer(self, *, end: int, **rest: object) -> SourceAnswer:
        infos = [info for table in self.tables.values() for info in table.infos()]
        return SourceAnswer(
            **{"rows": (), "infos": infos, **rest},  # type: ignore[arg-type]
            start=self.start,
            end=end,
            oldest=self.oldest,
            newest_end=self.newest_end,
            now=self.api.clock(self.now),
            agent_version="",
            kind="kubernetes",
            ignored=sum(table.ignored for table in self.tables.values()),
            refused=sum((table.refused for table in self.tables.values()), Counter()),
            notes=self.notes,
        )

    def _closed(self, clock: float) -> int:
        """Return the Unix time before which missing minutes will not come any more."""
        settled = int(clock - SETTLE_SECONDS) // MINUTE * MINUTE
        if self.newest_end is None or self.newest_end >= self.end:
            return settled
        absent = int(clock - LATE_SECONDS) // MINUTE * MINUTE
        return min(settled, max(self.newest_end, absent))

    async def _pieces(self, policy: Policy, start: int, end: int, *, edges: bool) -> int:
        """Fetch piece after piece; return where the last one ended."""
        width = TIERS[policy.tier]
        step, reached = max(FIRST_PIECE, 6 * width if policy is not RAW else 0), start
        for _ in range(MAX_PIECES):
            stop = min(end, reached + step)
            span = Span(reached, stop, grouped=stop - reached > SHORT)
            try:
                step = await self._piece(policy, span, first=reached == start, edges=edges)
            except (ClusterUnreachableError, ServiceUnavailableError) as exc:
                if reached == start:
                    raise
                logger.info("the range was cut at %s: %s", reached, exc)
                break
            except BadResponseError as exc:
                if exc.problem != "too_large" or stop - reached <= width:
                    raise
                step = max(width, (stop - reached) // 2 // width * width)
                continue
            reached = stop
            if reached >= end or self.points >= MAX_POINTS or self.api.late:
                break
        return reached

    async def _piece(self, policy: Policy, span: Span, *, first: bool, edges: bool) -> int:
        """Fetch one complete piece, then add it; return the next one's length in seconds."""
        wanted = MINUTES + SAMPLES if policy is RAW else COARSE[policy.name]
        extras = self._extras(edges=edges) if first and policy is RAW else []
        found, rest = await self._request(wanted, policy, span, extras)
        if rest:
            self._read_extras(rest)
        points, names = 0, 0
        for series, read in zip(wanted, found, strict=True):
            where = series.measurement + policy.suffix
            table = self.tables[series.kind] if series.type else self.samples
            if policy is RAW:
                put_points(read, series, span, table, where)
            else:
                put_rollups(read, series, policy, span, table, where)
            points += len(read.times)
            names += len(set(read.tags)) if span.grouped else 0
        self.points += points
        return _next_step(span, points, names, TIERS[policy.tier])

    async def _request(
        self, wanted: Sequence[Series], policy: Policy, span: Span, extras: Sequence[str] = ()
    ) -> tuple[list[Points], list[object]]:
        """Request fields, in halves if one bucket of all of them does not fit into an answer."""
        database, (start, end) = self.api.database, (span.start, span.end)
        selects = [
            select(database, series, policy, start, end, grouped=span.grouped) for series in wanted
        ]
        try:
            results = await self.api.ask([*extras, *selects])
        except BadResponseError as exc:
            if exc.problem != "too_large" or span.end - span.start > TIERS[policy.tier]:
                raise
            if len(wanted) == 1:
                msg = f"{wanted[0].measurement}: too many series for an answer: {exc}"
                raise BadResponseError(msg, problem="too_many_series") from exc
            half = len(wanted) // 2
            found, rest = await self._request(wanted[:half], policy, span, extras)
            return found + (await self._request(wanted[half:], policy, span))[0], rest
        parts = results[len(extras) :]
        found = [
            read_points(part, one, columns_of(one, policy), span, one.measurement + policy.suffix)
            for one, part in zip(wanted, parts, strict=True)
        ]
        return found, results[: len(extras)]

    def _extras(self, *, edges: bool) -> list[str]:
        """Return the statements sent with the first minutes; with ``edges``, all of them."""
        database = self.api.database
        newest = edge(database, RAW, newest=True)
        if not edges:
            return [newest]
        policies = f"SHOW RETENTION POLICIES ON {identifier(database)}"
        return [newest, edge(database, RAW, newest=False), policies]

    def _read_extras(self, results: Sequence[object]) -> None:
        newest = read_edge(results[0])
        self.newest_end = None if newest is None else -(-newest // MINUTE) * MINUTE
        if len(results) > 1:
            oldest = read_edge(results[1])
            self.oldest = None if oldest is None else (oldest - 1) // MINUTE * MINUTE
            self.api.policies = read_policies(results[2])


def _next_step(span: Span, points: int, names: int, width: int) -> int:
    """Return how many seconds the next answer may cover, from the size of the last one."""
    seconds = span.end - span.start
    room = max(TARGET_BYTES // 4, TARGET_BYTES - names * _SERIES_BYTES)
    each = _POINT_BYTES if span.grouped else _NAMED_POINT_BYTES
    fitting = room * seconds // max(1, points * each)
    return int(max(width, min(fitting, 8 * seconds) // width * width))


def _join_samples(nodes: Table, samples: Table) -> None:
    """Add Telegraf's samples to the nodes.

    Telegraf's ``host`` may be a pod's name, so a name counts as a node only if Heapster has it too.
    Where satellites name nodes as Heapster does, one that only they know is a node without
    Heapster's data: that it is not ready is worth a row.
    """
    known = set(nodes.keys)
    same_names = any(key in known for key in samples.keys)
    for name, column in samples.fields.items():
        for code, cell in column.items():
            key = samples.keys[code & MASK]
            if key in known or (name == "ready" and same_names):
                node_code = (code >> SHIFT) << SHIFT | nodes.numbers[(key.name,)]
                nodes.fields[name][node_code] = cell
