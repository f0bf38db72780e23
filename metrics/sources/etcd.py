"""etcd's own ``/metrics``: how long its disk takes to sync, and how often its leader changed.

A supplement to a cluster's main source: the usual installations do not store these values. etcd
reports totals since its start, so a reading needs the previous one: it is passed in and returned as
plain JSON values, and the caller stores it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from metrics.series.catalog import FIELD_NAMES
from metrics.series.rollups import LARGEST
from metrics.series.rows import Cell, MinuteRow
from metrics.sources.base import FieldProbe, HttpClient, Probe
from metrics.sources.bounds import bounds_of, reason
from opscenter.core.errors import BadResponseError

QUANTILE = 0.99
MAX_AGE_SECONDS = 600  # of the previous reading: a longer span says nothing about the newest minute
MAX_BUCKETS = 100
_HISTOGRAM = "etcd_disk_wal_fsync_duration_seconds_bucket"
_LEADER = "etcd_server_leader_changes_seen_total"
_BUCKET = re.compile(rf"^{_HISTOGRAM}\{{([^}}\n]*)\}} (\S+)", re.MULTILINE)
_BOUND = re.compile(r'(?:^|,)le="([^"]*)"')
_VERSION = re.compile(r'^etcd_server_version\{[^}\n]*server_version="([^"\n]*)"', re.MULTILINE)
_CHANGES = re.compile(rf"^{_LEADER}(?:\{{[^}}\n]*\}})? (\S+)", re.MULTILINE)
_FSYNC_AT = FIELD_NAMES["node"].index("etcd_fsync_us")
_CHANGES_AT = FIELD_NAMES["node"].index("etcd_leader_changes")

Buckets = Mapping[float, float]
"""Upper bound in seconds -> how many syncs took no longer, since etcd's start."""


@dataclass(frozen=True, slots=True)
class EtcdReading:
    """The values of one scrape.

    Attributes:
        fsync_us: 99th percentile of the syncs since the previous scrape, in microseconds; None
            without a previous scrape, without a sync since, or after a restart of etcd.
        leader_changes: number of leader changes since etcd's start; None if it does not report it.
        state: input of the next scrape; plain JSON values.
    """

    fsync_us: int | None
    leader_changes: int | None
    state: dict[str, Any]


class EtcdSource:
    """etcd as a source: tested like any other one, and scraped in addition to the main one."""

    async def probe(self, client: HttpClient, *, now: float) -> Probe:
        """Return what etcd's own metrics page has; see :class:`.base.HttpSource`."""
        text = await client.get_text("/metrics")
        reading = read_scrape(text, None, now=now)
        version = _VERSION.search(text)
        changes = reading.leader_changes is not None
        why = "" if changes else "etcd does not report leader changes"
        note = "Read with every pull; fsync needs two readings, so it begins with the second."
        return Probe(
            product="etcd",
            version=version[1] if version else "",
            oldest=None,
            newest=int(now),
            series={"node": 1},
            fields=(
                FieldProbe("node", "etcd_fsync_us", 1),
                FieldProbe("node", "etcd_leader_changes", int(changes), why),
            ),
            notes=(note,),
        )


async def scrape_etcd(
    client: HttpClient, state: Mapping[str, Any] | None, *, now: float
) -> EtcdReading:
    """Read etcd's metrics once.

    Args:
        client: the client that reaches etcd.
        state: state of the previous reading; None or {} if there is none.
        now: our clock in Unix seconds.

    Raises:
        ClusterError: etcd's answer is missing or refused.
        BadResponseError: the answer is not from an etcd, or its numbers are invalid.
    """
    return read_scrape(await client.get_text("/metrics"), state, now=now)


def read_scrape(text: str, state: Mapping[str, Any] | None, *, now: float) -> EtcdReading:
    """Return the reading of a metrics page, compared with the previous one.

    Raises:
        BadResponseError: the page is not from an etcd, or its numbers are invalid.
    """
    buckets = _read_buckets(text)
    changes = _CHANGES.search(text)
    before = _buckets_of(state, now) if state else None
    return EtcdReading(
        fsync_us=None if before is None else p99_us(before, buckets),
        leader_changes=None if changes is None else int(_count(changes[1])),
        state={"at": now, "buckets": [[repr(bound), count] for bound, count in buckets.items()]},
    )


def p99_us(before: Buckets, after: Buckets) -> int | None:
    """Return the 99th percentile of the syncs between two readings, in microseconds.

    Linear within a bucket, and the highest finite bound for values beyond it: the formula of
    Prometheus' ``histogram_quantile`` (``promql/quantile.go``, bucketQuantile).

    Returns:
        None if nothing was counted, a count decreased, or the bounds are not the same.
    """
    if before.keys() != after.keys() or math.inf not in after:
        return None
    bounds = sorted(after)
    counts = [after[bound] - before[bound] for bound in bounds]
    if any(count < 0 for count in counts) or counts[-1] <= 0 or len(bounds) < 2:
        return None
    for at in range(1, len(counts)):  # scraped while it was counting: make it cumulative again
        counts[at] = max(counts[at], counts[at - 1])
    rank = QUANTILE * counts[-1]
    at = next(index for index, count in enumerate(counts) if count >= rank)
    if at == len(bounds) - 1:
        return round(bounds[-2] * 1e6)
    low, below = (bounds[at - 1], counts[at - 1]) if at else (0.0, 0.0)
    share = (rank - below) / (counts[at] - below)
    return round((low + (bounds[at] - low) * share) * 1e6)


def believable(reading: EtcdReading) -> tuple[EtcdReading, dict[str, int]]:
    """Return a reading without values that cannot be believed, and their number by reason."""
    fsync, changes = reading.fsync_us, reading.leader_changes
    whys = {
        name: "" if value is None else bounds_of("node", name).why(value, value)
        for name, value in (("etcd_fsync_us", fsync), ("etcd_leader_changes", changes))
    }
    refused = {reason("node", name, why): 1 for name, why in whys.items() if why}
    if not refused:
        return reading, refused
    kept = replace(
        reading,
        fsync_us=None if whys["etcd_fsync_us"] else fsync,
        leader_changes=None if whys["etcd_leader_changes"] else changes,
    )
    return kept, refused


def with_etcd(
    rows: Sequence[MinuteRow], reading: EtcdReading, *, nodes: Iterable[str] = ()
) -> list[MinuteRow]:
    """Return rows with a reading in the newest minute of the node that etcd runs on.

    Args:
        rows: minutes of the main source, ascending by time.
        reading: the reading of the cluster's etcd.
        nodes: names of nodes where etcd may run, the likeliest first, e.g. those of the control
            plane; the first one that has the newest minute gets the values, else the first node by
            name.
    """
    minute = max((row.ts for row in rows if row.key.kind == "node"), default=None)
    present = {
        row.key.name: at
        for at, row in enumerate(rows)
        if row.key.kind == "node" and row.ts == minute
    }
    result = list(rows)
    if not present:
        return result
    name = next((node for node in nodes if node in present), min(present))
    row = rows[present[name]]
    cells = list(row.cells)
    for at, value in ((_FSYNC_AT, reading.fsync_us), (_CHANGES_AT, reading.leader_changes)):
        if value is not None:
            cells[at] = Cell(1, value, value, value)
    result[present[name]] = row._replace(cells=tuple(cells))
    return result


def _read_buckets(text: str) -> dict[float, float]:
    found = _BUCKET.findall(text)
    if not found:
        msg = f"the answer has no buckets of {_HISTOGRAM}: is it an etcd?"
        raise BadResponseError(msg, problem="not_json")
    if len(found) > MAX_BUCKETS:
        msg = f"the answer has {len(found)} buckets of {_HISTOGRAM}; at most {MAX_BUCKETS} are read"
        raise BadResponseError(msg, problem="too_many_series")
    buckets = {_bound(labels): _count(value) for labels, value in found}
    if len(buckets) != len(found):
        msg = f"the answer has a bucket of {_HISTOGRAM} twice: is it a single etcd?"
        raise BadResponseError(msg, problem="duplicate_series")
    if math.inf not in buckets or not text.endswith("\n"):
        msg = f"the answer ends within its text or within {_HISTOGRAM}: it is incomplete"
        raise BadResponseError(msg, problem="cut_off")
    return buckets


def _buckets_of(state: Mapping[str, Any], now: float) -> dict[float, float] | None:
    """Return the counts of the previous reading; None if they are too old, or not readable."""
    try:
        if not 0 < now - float(state["at"]) <= MAX_AGE_SECONDS:
            return None
        return {float(bound): float(count) for bound, count in state["buckets"]}
    except (KeyError, TypeError, ValueError):
        return None  # written by another version: start over with this reading


def _bound(labels: str) -> float:
    """Return a bucket's upper bound in seconds, small enough to be stored in microseconds."""
    found = _BOUND.search(labels)
    bound = _number(found[1] if found else "", "le")
    if not (0 < bound <= LARGEST / 1e6 or bound == math.inf):
        msg = f"{_HISTOGRAM}: a bound that is not a time"
        raise BadResponseError(msg, problem="bad_value")
    return bound


def _number(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if math.isnan(value):
        msg = f"{_HISTOGRAM}: {where} is not a number"
        raise BadResponseError(msg, problem="bad_value")
    return value


def _count(text: str) -> float:
    value = _number(text, "a count")
    if not 0 <= value <= LARGEST:
        msg = f"{_HISTOGRAM}: a count is negative or beyond {LARGEST}"
        raise BadResponseError(msg, problem="bad_value")
    return value
