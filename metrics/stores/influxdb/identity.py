"""The installation's id in an InfluxDB: the description of a bucket that holds no rows."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from metrics.models.influxdb_store import MetricPlace, MetricSeries
from metrics.stores.identity import StorePlace
from metrics.stores.influxdb.buckets import Buckets
from metrics.stores.influxdb.client import Influx
from metrics.stores.influxdb.flux import Query, records

_LOOKED_FOR = 20  # clusters whose newest minute is asked for
_MINUTE = "1m"


def marker_name(prefix: str) -> str:
    """Return the name of the bucket whose description is the id."""
    return f"{prefix}_installation"


def place_of(influx: Influx, buckets: Buckets, clusters: Iterable[UUID]) -> StorePlace:
    """Return the InfluxDB as it is now.

    Without an id it is asked for the newest minutes of clusters with data: where one of them is,
    this database's index is that InfluxDB's.

    Raises:
        StoreError: it does not answer.
    """
    present = influx.buckets()
    name = marker_name(buckets.prefix)
    marker = present.get(name)
    identity = "" if marker is None else str(marker.description or "")
    found: frozenset[UUID] = frozenset()
    if not identity:
        found = frozenset(
            cluster
            for cluster in sorted(clusters)[:_LOOKED_FOR]
            if _has_newest_minute(influx, buckets, frozenset(present), cluster)
        )
    where = f"InfluxDB at {influx.server.url}, buckets {buckets.prefix}_..."
    return StorePlace(where, identity, found, lambda _: True)


def adopt(influx: Influx, buckets: Buckets, installation: str) -> None:
    """Make the bucket with the id if there is none.

    Raises:
        StoreError: InfluxDB refuses or does not answer.
    """
    name = marker_name(buckets.prefix)
    if name not in influx.buckets():
        influx.make_bucket(name, 0, 0, description=installation)


def _has_newest_minute(
    influx: Influx, buckets: Buckets, present: frozenset[str], cluster: UUID
) -> bool:
    """Return whether the last minute that the index has of a cluster is in its bucket."""
    newest = (
        MetricSeries.objects.filter(cluster__cluster=cluster, last_n__gte=0)
        .order_by("-last_ts")
        .first()
    )
    if newest is None or newest.last_ts is None:
        return False
    place = MetricPlace.objects.filter(
        cluster__cluster=cluster, kind=newest.kind, tier=_MINUTE
    ).first()
    if place is None:
        return False
    bucket = buckets.name(_MINUTE, place.kept_seconds)
    if bucket not in present:
        return False
    query = (
        Query(newest.last_ts, newest.last_ts + 1)
        .where("_measurement", newest.kind)
        .where("cluster", str(cluster))
        .keep("_value")
        .then("limit(n: 1)")
    )
    return any(True for _ in records(influx, bucket, query))
