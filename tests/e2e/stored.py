"""What a centre's metric store holds, compared with what the simulated clusters know."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from uuid import UUID

from metrics.series import rollups
from metrics.series.catalog import TIERS
from metrics.series.rows import Cell, Columns, SeriesKey
from metrics.stores.sqlite.store import SqliteStore
from tests.fleet.world import World

FIELDS = ("cpu_mc", "mem_ws", "net_rx_bps")


def expected_minutes(world: World, node: int, field: str, start: int, end: int) -> list[Cell]:
    """Return the stored minutes that a simulated node must have over ``[start, end)``."""
    cells = []
    for ts in range(start, end, 60):
        rows = dict(enumerate(cells for _, cells in world.node_rows(ts // 60)))
        stored = rollups.minute(Cell(*rows[node][field]))
        assert stored is not None
        cells.append(stored)
    return cells


def read(
    store: SqliteStore, cluster: UUID, key: SeriesKey, field: str, tier: str, span: tuple[int, int]
) -> dict[int, Cell]:
    """Return what the store holds of one field, by bucket start."""
    columns: Columns = store.read(cluster, key, field, tier, *span)
    assert len(columns.t) == len(set(columns.t)), "a bucket is stored twice"
    return {
        t: Cell(n, total, low, high)
        for t, n, total, low, high in zip(
            columns.t, columns.n, columns.total, columns.low, columns.high, strict=True
        )
    }


def differences(
    store: SqliteStore, cluster: UUID, world: World, start: int, end: int
) -> Iterator[str]:
    """Yield every bucket of every node and tier that is missing, extra or wrong."""
    for index, node in enumerate(world.nodes):
        key = SeriesKey("node", "", node.name)
        for field in FIELDS:
            cells = expected_minutes(world, index, field, start, end)
            minutes = dict(zip(range(start, end, 60), cells, strict=True))
            yield from series_differences(store, cluster, key, field, minutes, (start, end))


def series_differences(
    store: SqliteStore,
    cluster: UUID,
    key: SeriesKey,
    field: str,
    minutes: Mapping[int, Cell],
    span: tuple[int, int],
) -> Iterator[str]:
    """Yield every bucket of one field and any tier that is not what ``minutes`` make."""
    start, end = span
    for tier, width in TIERS.items():
        wanted = _wider(minutes, width)
        held = read(store, cluster, key, field, tier, span)
        for ts in sorted(wanted.keys() | held.keys()):
            # The newest bucket of a wide tier may hold minutes after the comparison's end.
            if ts + width <= end and ts >= start and wanted.get(ts) != held.get(ts):
                name = f"{key.kind} {key.ns} {key.name}"
                yield f"{name} {field} {tier} {ts}: {held.get(ts)} != {wanted.get(ts)}"


def _wider(minutes: Mapping[int, Cell], width: int) -> dict[int, Cell]:
    buckets: dict[int, list[Cell]] = {}
    for ts, cell in minutes.items():
        buckets.setdefault(rollups.bucket_start(ts, width), []).append(cell)
    merged = {ts: rollups.merge(cells) for ts, cells in buckets.items()}
    return {ts: cell for ts, cell in merged.items() if cell is not None}


def closed_minute(seconds_ago: int = 0) -> int:
    """Return the end of the newest closed minute, or of an older one."""
    return (int(time.time()) - seconds_ago) // 60 * 60
