"""How long a cluster's rows are kept, for the InfluxDB store."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from clusters import legal_holds
from clusters.models import Cluster
from metrics.retention.in_force import retention_of
from metrics.series.catalog import TIERS, Kind
from metrics.series.windows import DAY
from metrics.stores.influxdb.names import FOREVER, KINDS


def retention_seconds(cluster: UUID) -> Mapping[Kind, Mapping[str, int]]:
    """Return the seconds that each kind's tiers of a cluster are kept. 4-8 queries.

    0 (forever) under a legal hold. A cluster that is no longer in the database has the default
    class.
    """
    if legal_holds.is_held(cluster):
        return {kind: dict.fromkeys(TIERS, FOREVER) for kind in KINDS}
    row = Cluster.objects.filter(pk=cluster).first() or Cluster(pk=cluster)
    limits = retention_of(row).limits
    return {kind: {tier: limits[kind][tier] * DAY for tier in TIERS} for kind in KINDS}
