"""etcd's values in addition to the main source: read with every live pull into the nodes' minutes.

An etcd that does not answer never fails a pull: the error is stored on its row, for the page.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from clusters.models import Cluster
from metrics.connections.config import config_of
from metrics.connections.connect import connector
from metrics.models import MetricSource
from metrics.series.catalog import FIELD_NAMES
from metrics.series.rows import Cell, MinuteRow
from metrics.series.source_answer import SourceAnswer
from metrics.series.windows import utc_datetime
from metrics.sources.etcd import EtcdReading, believable, scrape_etcd, with_etcd
from metrics.stores.reader import MetricReader
from opscenter.core.encryption import SealBrokenError
from opscenter.core.errors import ClusterError, ServiceUnavailableError, SourceConfigError
from opscenter.core.text import one_line

logger = logging.getLogger(__name__)

SECONDS = 3.0  # that a pull waits for etcd
_FIELDS = ("etcd_fsync_us", "etcd_leader_changes")
_AT = {name: FIELD_NAMES["node"].index(name) for name in _FIELDS}


@dataclass(frozen=True, slots=True)
class Supplement:
    """A cluster's configured etcd."""

    row: MetricSource
    cluster: Cluster

    async def read(self, now: float) -> EtcdReading | None:
        """Read etcd once; on failure return None and set the row's error."""
        try:
            config = config_of(self.row)
            async with asyncio.timeout(SECONDS), connector(config)(self.cluster) as client:
                return await scrape_etcd(client, self.row.state, now=now)
        except TimeoutError:
            self.row.error = f"etcd of {self.cluster.name}: no answer within {SECONDS:g} s"
            self.row.error_code = ServiceUnavailableError.code
        except ClusterError as exc:
            self.row.error, self.row.error_code = one_line(str(exc), 500), exc.name
        except SealBrokenError as exc:
            self.row.error = one_line(str(exc), 500)
            self.row.error_code = SourceConfigError.code
        self.row.error_at = utc_datetime(now)
        logger.info("cluster %s: %s", self.cluster, self.row.error)
        return None

    def merged(self, answer: SourceAnswer, reading: EtcdReading | None) -> SourceAnswer:
        """Return the answer with the reading in its newest minute, and store the outcome."""
        if reading is None:
            MetricSource.objects.filter(pk=self.row.pk).update(
                error=self.row.error, error_code=self.row.error_code, error_at=self.row.error_at
            )
            return answer
        MetricSource.objects.filter(pk=self.row.pk).update(
            state=reading.state, error="", error_code="", error_at=None
        )
        node = self.row.settings.get("node", "")
        likely = [node] if node else control_plane(answer)
        reading, refused = believable(reading)
        rows = with_etcd(answer.rows, reading, nodes=likely)
        return replace(answer, rows=rows, refused={**answer.refused, **refused})


def with_stored(store: MetricReader, cluster: UUID, answer: SourceAnswer) -> SourceAnswer:
    """Return the answer with the etcd values that are already stored for its minutes.

    A minute that is requested again comes without them, and would overwrite them.
    """
    nodes = [row.ts for row in answer.rows if row.key.kind == "node"]
    if not nodes:
        return answer
    start, end = min(nodes), max(nodes) + 60
    stored: dict[tuple[str, int], dict[str, Cell]] = {}
    for name in _FIELDS:
        for key, columns in store.read_many(cluster, "node", name, "1m", start, end).items():
            for ts, total in zip(columns.t, columns.total, strict=True):
                stored.setdefault((key.name, ts), {})[name] = Cell(1, total, total, total)
    if not stored:
        return answer
    return replace(answer, rows=[_filled(row, stored) for row in answer.rows])


def _filled(row: MinuteRow, stored: Mapping[tuple[str, int], Mapping[str, Cell]]) -> MinuteRow:
    values = stored.get((row.key.name, row.ts)) if row.key.kind == "node" else None
    if not values:
        return row
    cells: list[Any] = list(row.cells)
    for name, cell in values.items():
        if cells[_AT[name]] is None:
            cells[_AT[name]] = cell
    return row._replace(cells=tuple(cells))


def control_plane(answer: SourceAnswer) -> list[str]:
    """Return the names of the control plane's nodes, by their roles, sorted."""
    wanted = ("master", "control-plane")
    return sorted(
        info.key.name
        for info in answer.infos
        if info.key.kind == "node" and any(part in info.attrs.get("roles", "") for part in wanted)
    )
