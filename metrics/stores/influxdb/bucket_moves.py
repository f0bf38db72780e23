"""Moves of a cluster's rows between buckets, when its customer's retention changes.

New rows go to the new bucket at once, and reads use both, so that nothing is missing while the old
rows follow in blocks. An interrupted move continues with the next
:meth:`~metrics.stores.housekeeping.MetricHousekeeping.maintain`. Rows that the new class does not
keep are not copied; the old bucket's rows are deleted at the end.
"""

from __future__ import annotations

import time
from uuid import UUID

from metrics.models.influxdb_store import MetricCluster, MetricPlace
from metrics.series.catalog import TIERS
from metrics.series.rollups import bucket_start
from metrics.series.windows import DAY
from metrics.stores.influxdb.buckets import Buckets, ClusterBuckets, RetentionLookup
from metrics.stores.influxdb.client import Influx
from metrics.stores.influxdb.flux import of_cluster, points, records, unix
from metrics.stores.influxdb.ledger import outdate, translated, writing
from metrics.stores.influxdb.rows import line, line_head

BLOCK_BUCKETS = 60


class Mover:
    """The moves of one store."""

    def __init__(self, influx: Influx, buckets: Buckets, retention: RetentionLookup) -> None:
        self._influx = influx
        self._buckets = buckets
        self._retention = retention

    def run(self, now: int, *, budget_seconds: float) -> tuple[int, int]:
        """Begin and continue moves; return how many are finished and how many are open.

        Raises:
            StoreError: a move failed; the next run continues it.
        """
        give_up_at = time.monotonic() + budget_seconds
        done = 0
        for cluster in MetricCluster.objects.filter(erasing=False):
            self._begin(cluster)
        for place in MetricPlace.objects.filter(moving=True).select_related("cluster"):
            done += self._move(place, now, give_up_at)
        return done, MetricPlace.objects.filter(moving=True).count()

    def _begin(self, cluster: MetricCluster) -> None:
        """Redirect a cluster's writes to other buckets where its retention has changed."""
        wanted = self._retention(cluster.cluster)
        for place in cluster.places.filter(moving=False):
            seconds = wanted[place.kind][place.tier]  # type: ignore[index]
            if seconds == place.kept_seconds:
                continue
            self._buckets.ready(place.tier, seconds)
            with writing(cluster.cluster), translated():
                MetricPlace.objects.filter(pk=place.pk, moving=False).update(
                    moving=True, previous_seconds=place.kept_seconds, kept_seconds=seconds,
                    moved_until=0,
                )  # fmt: skip
                outdate(pk=cluster.pk)

    def _move(self, place: MetricPlace, now: int, give_up_at: float) -> bool:
        """Copy block by block; return whether the move is finished."""
        cluster = place.cluster.cluster
        old = self._buckets.name(place.tier, place.previous_seconds)
        horizon = _horizon(place, now)
        width = BLOCK_BUCKETS * TIERS[place.tier]
        end = self._end(place, old)
        at = bucket_start(max(self._start(place, old, end), horizon, place.moved_until), width)
        while at < end:
            if time.monotonic() > give_up_at:
                return False
            with writing(cluster):
                copied = self._copy(place, old, max(at, horizon), at + width)
            at += width
            if not copied:  # perhaps a long time without rows
                at = max(at, bucket_start(self._start(place, old, end, at), width))
            MetricPlace.objects.filter(pk=place.pk).update(moved_until=at)
        predicate = f'_measurement="{place.kind}" AND cluster="{cluster}"'
        if old in self._influx.buckets():
            self._influx.delete(old, predicate, 0, 1 << 33)
        with writing(cluster), translated():
            # The new bucket never had hidden rows.
            MetricPlace.objects.filter(pk=place.pk).update(moving=False, moved_until=0, expired=0)
            outdate(pk=place.cluster_id)
        return True

    def _copy(self, place: MetricPlace, old: str, start: int, end: int) -> bool:
        """Write the old bucket's rows of one block to the new one, unless that has better ones.

        Returns:
            Whether the old bucket has any.
        """
        cluster, kind, tier = place.cluster.cluster, place.kind, place.tier
        new = self._buckets.ready(tier, place.kept_seconds)
        start = max(start, place.expired)
        if start >= end:
            return False
        present = points(self._influx, new, tier, of_cluster(cluster, [kind], start, end))  # type: ignore[list-item]
        copied = points(self._influx, old, tier, of_cluster(cluster, [kind], start, end))  # type: ignore[list-item]
        lines = []
        for key, rows in copied.items():
            head, known = line_head(str(cluster), key), present.get(key, {})
            for ts, values in rows.items():
                stored = known.get(ts)
                if stored is None or (stored[0] or 0) < (values[0] or 0):
                    lines.append(line(head, key, tier, ts, values, stored))
        self._influx.write(new, [each for each in lines if each])
        return bool(copied)

    def _start(self, place: MetricPlace, old: str, end: int, since: int = 0) -> int:
        """Return the time of the old bucket's oldest row from ``since`` on; ``end`` for none."""
        return min(self._times(place, old, "first()", since), default=end)

    def _end(self, place: MetricPlace, old: str) -> int:
        """Return a time after the old bucket's newest row; 0 for none."""
        return max(self._times(place, old, "last()"), default=-1) + 1

    def _times(self, place: MetricPlace, old: str, step: str, since: int = 0) -> list[int]:
        if old not in self._influx.buckets():
            return []
        kind: UUID | str = place.kind
        query = of_cluster(place.cluster.cluster, [kind], since, 1 << 33).where("_field", "n")  # type: ignore[list-item]
        query.then(step).keep("_time")
        return [unix(record[at["_time"]]) for at, record in records(self._influx, old, query)]


def _horizon(place: MetricPlace, now: int) -> int:
    """Return the Unix time before which the new class keeps nothing."""
    if not place.kept_seconds:
        return place.expired
    return max(place.expired, bucket_start(now - place.kept_seconds, DAY))


__all__ = ["ClusterBuckets", "Mover"]
