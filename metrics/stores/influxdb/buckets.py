"""Buckets: one per tier and retention; and the bucket of each cluster's rows.

An InfluxDB handles about twenty active buckets, so there is none per customer: customers whose
classes keep a tier equally long share one. A bucket keeps its points a little longer than the
class, because rows are hidden by whole days.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from uuid import UUID

from metrics.models.influxdb_store import MetricCluster, MetricPlace
from metrics.series.catalog import TIERS, Kind
from metrics.series.rollups import bucket_start
from metrics.series.windows import DAY
from metrics.stores.influxdb.client import Influx
from metrics.stores.influxdb.names import FOREVER, KINDS, bucket_name, shard_seconds

MANY_BUCKETS = 20
SLACK_SECONDS = DAY + 7200

RetentionLookup = Callable[[UUID], Mapping[Kind, Mapping[str, int]]]
"""Returns how many seconds each kind's tiers of a cluster are kept; 0: forever."""


class Buckets:
    """The buckets of one prefix."""

    def __init__(self, influx: Influx, prefix: str) -> None:
        self.influx = influx
        self.prefix = prefix
        self._made: set[str] = set()
        self._lock = threading.Lock()

    def name(self, tier: str, kept_seconds: int) -> str:
        """Return the name of a bucket."""
        return bucket_name(self.prefix, tier, kept_seconds)

    def ready(self, tier: str, kept_seconds: int) -> str:
        """Return the name of a bucket, which is created if it does not exist.

        Raises:
            StoreError: it cannot be created.
        """
        name = self.name(tier, kept_seconds)
        with self._lock:
            if name not in self._made:
                self._check({name: kept_seconds})
        return name

    def check(self, wanted: Mapping[str, int]) -> list[str]:
        """Create missing buckets and lengthen those that are too short; return what was done.

        Args:
            wanted: name -> how long its rows are kept, in seconds; 0: forever.

        Raises:
            StoreError: InfluxDB refuses or does not answer.
        """
        with self._lock:
            return self._check(wanted)

    def missing(self, wanted: Mapping[str, int]) -> list[str]:
        """Return what is wrong with these buckets, without repairing it."""
        present = self.influx.buckets()
        problems = []
        for name, kept_seconds in wanted.items():
            bucket = present.get(name)
            if bucket is None:
                problems.append(f"InfluxDB at {self.influx.server.url} has no bucket {name}")
            elif _is_too_short(_every(bucket), kept_seconds):
                problems.append(f"bucket {name} keeps its points for {_every(bucket)} s only")
        return problems

    def _check(self, wanted: Mapping[str, int]) -> list[str]:
        present = self.influx.buckets()
        done = []
        for name, kept_seconds in wanted.items():
            bucket = present.get(name)
            every = FOREVER if kept_seconds == FOREVER else kept_seconds + SLACK_SECONDS
            if bucket is None:
                self.influx.make_bucket(name, every, shard_seconds(kept_seconds))
                done.append(f"made bucket {name}")
            elif _is_too_short(_every(bucket), kept_seconds):
                self.influx.lengthen_bucket(bucket, every)
                done.append(f"lengthened bucket {name}")
            self._made.add(name)
        if done and len(present.keys() | wanted.keys()) > MANY_BUCKETS:
            done.append(f"more than {MANY_BUCKETS} buckets: use fewer retention classes")
        return done


@dataclass(frozen=True, slots=True)
class ReadRange:
    """A bucket, and the Unix time from which a cluster's rows of a kind and tier are read."""

    bucket: str
    start: int


class ClusterBuckets:
    """The buckets of one cluster's rows, for the duration of one call."""

    def __init__(self, buckets: Buckets, rows: Mapping[tuple[str, str], MetricPlace]) -> None:
        self.buckets = buckets
        self._rows = rows

    @classmethod
    def known(cls, buckets: Buckets, cluster: UUID) -> ClusterBuckets:
        """Return the buckets of a cluster's rows; empty if it is unknown or being erased."""
        rows = MetricPlace.objects.filter(cluster__cluster=cluster, cluster__erasing=False)
        return cls(buckets, {(row.kind, row.tier): row for row in rows})

    @classmethod
    def made(
        cls, buckets: Buckets, cluster: MetricCluster, retention: RetentionLookup
    ) -> ClusterBuckets:
        """Return the buckets of a cluster's rows; choose them for new kinds and tiers."""
        rows = {(row.kind, row.tier): row for row in MetricPlace.objects.filter(cluster=cluster)}
        if len(rows) < len(KINDS) * len(TIERS):
            wanted = retention(cluster.cluster)
            new = [
                MetricPlace(cluster=cluster, kind=kind, tier=tier, kept_seconds=wanted[kind][tier])
                for kind in KINDS
                for tier in TIERS
                if (kind, tier) not in rows
            ]
            MetricPlace.objects.bulk_create(new)
            rows |= {(row.kind, row.tier): row for row in new}
        return cls(buckets, rows)

    def __iter__(self) -> Iterator[MetricPlace]:
        return iter(self._rows.values())

    def bucket(self, kind: Kind, tier: str) -> str:
        """Return the bucket to write to, which exists."""
        return self.buckets.ready(tier, self._rows[kind, tier].kept_seconds)

    def is_moving(self, kind: Kind, tier: str) -> bool:
        """Return whether rows may still be in another bucket."""
        return self._rows[kind, tier].moving

    def horizon(self, kind: Kind, tier: str, now: float) -> int:
        """Return the Unix time from which rows are accepted: older ones are not kept."""
        row = self._rows[kind, tier]
        if row.kept_seconds == FOREVER:
            return row.expired
        return max(row.expired, bucket_start(int(now) - row.kept_seconds, DAY))

    def read_ranges(self, kind: Kind, tier: str, start: int) -> list[ReadRange]:
        """Return where to read rows from ``start`` on; the bucket for writes comes first."""
        row = self._rows.get((kind, tier))
        if row is None:
            return []
        first = max(start, row.expired)
        found = [ReadRange(self.buckets.ready(tier, row.kept_seconds), first)]
        if row.moving:
            found.append(ReadRange(self.buckets.name(tier, row.previous_seconds), first))
        return found


def _every(bucket: object) -> int:
    rules = getattr(bucket, "retention_rules", None) or []
    return int(rules[0].every_seconds or FOREVER) if rules else FOREVER


def _is_too_short(every: int, kept_seconds: int) -> bool:
    return every != FOREVER and (kept_seconds == FOREVER or every < kept_seconds)
