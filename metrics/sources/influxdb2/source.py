"""The ``influxdb2`` source: an InfluxDB 2.x bucket that Telegraf writes to.

Telegraf's inputs ``kubernetes`` and ``kube_inventory`` give nodes and pods, its inputs for hosts
(``cpu``, ``mem``, ``disk``, ``net``, ``system``) the rest, or everything where there is no
Kubernetes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from metrics.series.catalog import Kind
from metrics.series.rows import SeriesKey
from metrics.series.source_answer import SourceAnswer
from metrics.series.windows import MINUTE
from metrics.sources.base import HttpClient, Probe, RawAnswer, Resolution
from metrics.sources.bounds import bounds_of
from metrics.sources.influxdb2.missing_fields import probe_fields
from metrics.sources.influxdb2.queries import (
    EDGES,
    STREAMS,
    edges_query,
    measurements_query,
    minutes_query,
    samples_query,
)
from metrics.sources.influxdb2.raw import raw_answer, samples_of
from metrics.sources.influxdb2.responses import (
    Columns,
    read_column,
    read_moment,
    read_stream,
    read_tables,
)
from metrics.sources.influxdb2.rows import Tables, merged
from metrics.sources.parse_concurrency import ParseSlot
from metrics.sources.validation import clean_text
from opscenter.core.errors import (
    BadResponseError,
    ClusterUnreachableError,
    ServiceUnavailableError,
)
from opscenter.core.text import minute_utc

logger = logging.getLogger(__name__)

FIRST_PIECE = 600  # seconds of a long window that are requested first, to see how much comes
LONGEST_PIECE = 6 * 3600
MAX_PIECES = 256
MAX_POINTS = 1_500_000  # of one fetch; the next one reads the rest of the window
TARGET_BYTES = 4_000_000  # of one answer; the client refuses twice as much
LATE_SECONDS = 300  # a missing minute that is this old will not come
BEFORE = 120  # seconds before a window from which counters are read


class Influx2Source:
    """Reads a window from an InfluxDB 2.x, in pieces where one answer does not hold it.

    Args:
        org: the organisation that owns the bucket.
        bucket: the bucket that Telegraf writes to.
        budget_seconds: no further piece is requested after this many seconds, so that what was read
            is stored before the caller's deadline.
    """

    # Telegraf flushes every 10 s, with as much jitter; one more minute covers late data.
    overlap_seconds: ClassVar[int] = 60
    settle_seconds: ClassVar[int] = 60
    longest_request_seconds: ClassVar[int] = 6 * 3600

    def __init__(self, org: str, bucket: str, *, budget_seconds: float = 10.0) -> None:
        self._org, self._bucket = org, bucket
        self._budget_seconds = budget_seconds
        self._reach: int | None = None

    @property
    def resolutions(self) -> Sequence[Resolution]:
        """Return the bucket's only resolution; its retention is known after the first query."""
        return (Resolution(MINUTE, self._reach, "1m"),)

    async def fetch(
        self, client: HttpClient, start: int, end: int, *, now: float, slot: ParseSlot
    ) -> SourceAnswer:
        """Return what the bucket has of ``[start, end)``; see :class:`.base.HttpSource`.

        Raises:
            ClusterError: nothing is known about the window.
        """
        api = _FluxApi(client, self._org, self._bucket, slot, self._budget_seconds)
        tables, reached, edges = await _pieces(api, start, end, int(now) + LATE_SECONDS)
        self._reach = edges.reach
        unknown_nodes = tables.fill()
        clock = api.clock(now)
        minutes = tables.times()
        newest_end = max(minutes) + MINUTE if minutes else None
        if edges.newest is not None:
            newest_end = max(newest_end or 0, edges.newest // MINUTE * MINUTE + MINUTE)
        covered = max(start, min(reached, _closed(clock, newest_end, end)))
        oldest = min(minutes, default=None) if edges.oldest is None else edges.oldest
        return SourceAnswer(
            rows=tables.minutes(covered),
            infos=tables.infos(),
            start=start,
            end=covered,
            oldest=oldest,
            newest_end=newest_end,
            now=clock,
            agent_version="",
            kind="kubernetes" if tables.found["node"].times else "host",
            minutes_alive=frozenset(minute for minute in minutes if minute < covered),
            ignored=tables.ignored,
            refused=tables.refused,
            notes=_unknown_nodes_note(unknown_nodes),
        )

    async def probe(self, client: HttpClient, *, now: float) -> Probe:
        """Return what the server has; see :class:`.base.HttpSource`."""
        with ParseSlot("live") as slot:
            api = _FluxApi(client, self._org, self._bucket, slot, self._budget_seconds)
            health = await client.get_json("/health")
            edges = await api.edges(int(now) + LATE_SECONDS)
            self._reach = edges.reach
            names = await api.measurements()
            end = (edges.newest or int(now)) // MINUTE * MINUTE
            tables, _, _ = await _pieces(api, end - 5 * MINUTE, end, end)
            unknown_nodes = tables.fill()
        version = health.get("version", "") if isinstance(health, dict) else ""
        retention = "forever" if edges.reach is None else f"for {edges.reach // 3600} h"
        notes = [f"the bucket keeps data {retention}", *_unknown_nodes_note(unknown_nodes)]
        if edges.newest is None:
            notes.append("Telegraf has written no node or host data into this bucket")
        elif edges.newest < now - 2 * LATE_SECONDS:
            notes.append(f"the newest data is from {minute_utc(edges.newest)}")
        kinds: tuple[Kind, ...] = ("node", "filesystem", "pod")
        return Probe(
            product="InfluxDB",
            version=clean_text(version, "the version", 60),
            oldest=edges.oldest,
            newest=edges.newest,
            series={kind: len(tables.tables[kind].keys) for kind in kinds},
            fields=[one for kind in kinds for one in probe_fields(kind, tables, names)],
            resolutions=self.resolutions,
            notes=notes,
        )

    async def raw(
        self, client: HttpClient, key: SeriesKey, field: str, start: int, end: int, *, now: float
    ) -> RawAnswer:
        """Return the samples of one series; see :class:`.base.RawSource`."""
        del now
        samples = samples_of(key, field)
        name = (key.name,) if key.kind == "node" else (key.ns, key.name)
        named = dict(zip(samples.names, name, strict=True))
        earlier = start - BEFORE if samples.counter else start
        with ParseSlot("live") as slot:
            api = _FluxApi(client, self._org, self._bucket, slot, self._budget_seconds)
            body = samples_query(self._bucket, samples.stream, named, earlier, end)
            tables, _ = await api.ask(body)
            found = read_stream(tables.get(samples.stream.name, ()), samples.stream)
            return raw_answer(found, samples, start, bounds_of(key.kind, field))


@dataclass(frozen=True, slots=True)
class _Edges:
    """Where a bucket's data begins and ends in Unix seconds, and its retention in seconds."""

    oldest: int | None
    newest: int | None
    reach: int | None


@dataclass(slots=True)
class _FluxApi:
    """Sends queries and splits the answers."""

    client: HttpClient
    org: str
    bucket: str
    slot: ParseSlot
    budget_seconds: float
    stop_at: float = field(init=False)

    def __post_init__(self) -> None:
        self.stop_at = asyncio.get_running_loop().time() + self.budget_seconds

    @property
    def late(self) -> bool:
        """Return whether the budget is used up."""
        return asyncio.get_running_loop().time() >= self.stop_at

    def clock(self, now: float) -> float:
        """Return the server's time from its last answer; ``now`` if it had none."""
        reported = self.client.server_date
        return now if reported is None else reported

    async def ask(self, body: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
        """Return an answer's tables by result, and its length.

        Raises:
            ClusterError: the server's answer is missing or refused.
        """
        self.slot.release()
        try:
            text = await self.client.post_text(
                "/api/v2/query", body, {"org": self.org}, accept="application/csv"
            )
        except BadResponseError as exc:
            if exc.problem == "not_found" and "could not find bucket" in str(exc):
                raise BadResponseError(
                    str(exc), problem="database_missing", status=exc.status
                ) from exc
            raise
        self.slot.acquire()
        return read_tables(text), len(text)

    async def edges(self, now: int) -> _Edges:
        """Return where the bucket's data begins and ends."""
        tables, _ = await self.ask(edges_query(self.bucket, now))
        return _read_edges(tables)

    async def measurements(self) -> set[str]:
        """Return the names of the measurements of the last 30 days."""
        tables, _ = await self.ask(measurements_query(self.bucket))
        return {name for parts in tables.values() for name in read_column(parts, "_value")}


def _read_edges(tables: Mapping[str, Any]) -> _Edges:
    moments = {
        which: [read_moment(tables.get(f"{which} {name}", ())) for name in EDGES]
        for which in ("first", "last")
    }
    oldest = min((m for m in moments["first"] if m is not None), default=None)
    newest = max((m for m in moments["last"] if m is not None), default=None)
    reach = None
    for text in read_column(tables.get("bucket", ()), "retentionPeriod"):
        # 64 bits; a longer text is cut, so that it cannot be slow to read.
        reach = int(text[:19]) // 1_000_000_000 if text.isdecimal() else None
    aligned = None if oldest is None else oldest - oldest % MINUTE
    return _Edges(aligned, newest, reach or None)


async def _pieces(api: _FluxApi, start: int, end: int, now: int) -> tuple[Tables, int, _Edges]:
    """Fetch piece after piece; return all data, where the last piece ended, and the edges."""
    edges = _Edges(None, None, None)
    found = {stream.name: Columns(fields={f: [] for f in stream.fields}) for stream in STREAMS}
    reached, step, points = start, FIRST_PIECE, 0
    for _ in range(MAX_PIECES):
        stop = min(end, reached + step)
        first = reached == start
        before = BEFORE if first else 0
        body = minutes_query(api.bucket, reached, stop, before=before, now=now if first else None)
        try:
            parts, length = await api.ask(body)
        except (ClusterUnreachableError, ServiceUnavailableError) as exc:
            if first:
                raise
            logger.info("the range was cut at %s: %s", reached, exc)
            break
        except BadResponseError as exc:
            if exc.problem != "too_large":
                raise
            if stop - reached <= MINUTE:
                msg = f"one minute of the bucket is too large for an answer: {exc}"
                raise BadResponseError(msg, problem="too_many_series") from exc
            step = max(MINUTE, (stop - reached) // 2 // MINUTE * MINUTE)
            continue
        if first:
            edges = _read_edges(parts)
        for stream in STREAMS:
            read = read_stream(parts.get(stream.name, ()), stream)
            low = reached - before if stream.aggregate == "last" else reached
            _check_times(read, low, stop, stream.measurement)
            points += len(read.times)
            _extend(found[stream.name], merged(read) if stream.aggregate == "mean" else read)
        fitting = TARGET_BYTES * (stop - reached) // max(1, length)
        step = max(MINUTE, min(fitting, 8 * (stop - reached), LONGEST_PIECE) // MINUTE * MINUTE)
        reached = stop
        if reached >= end or points >= MAX_POINTS or api.late:
            break
    return Tables(found, start), reached, edges


def _check_times(read: Columns, low: int, high: int, where: str) -> None:
    if read.times and not low <= min(read.times) <= max(read.times) < high:
        strange = min(read.times) if min(read.times) < low else max(read.times)
        msg = f"{where}: {strange} is outside the requested range, {low}..{high}"
        raise BadResponseError(msg, problem="bad_value")


def _extend(found: Columns, more: Columns) -> None:
    found.times += more.times
    found.tags += more.tags
    for name, values in more.fields.items():
        found.fields[name] += values


def _closed(clock: float, newest_end: int | None, end: int) -> int:
    """Return the Unix time before which missing minutes will not come any more."""
    settled = int(clock - Influx2Source.settle_seconds) // MINUTE * MINUTE
    if newest_end is None or newest_end >= end:
        return settled
    return min(settled, max(newest_end, int(clock - LATE_SECONDS) // MINUTE * MINUTE))


def _unknown_nodes_note(hosts: set[str]) -> list[str]:
    if not hosts:
        return []
    return [f"left out: {len(hosts)} hosts of Telegraf that are not nodes, e.g. {min(hosts)}"]
