"""The benchmark's fleet: the same for the same seed, and as large as it says."""

from __future__ import annotations

from metrics.series.catalog import FIELD_NAMES
from tests.bench.workload import PAGE, Cluster, make_fleet

START = 1_700_000_000 // 3600 * 3600


def fleet(minutes: int = 20) -> list[Cluster]:
    return list(make_fleet(3, minutes, START))


def test_the_same_seed_gives_the_same_numbers():
    assert fleet() == fleet()


def test_a_batch_holds_every_value_of_its_minutes_once():
    [cluster] = make_fleet(1, 20, START, nodes=3)
    rows = [row for first in (0, 10) for row in cluster.batch(first, 10).rows]
    assert len({(row.ts, row.key) for row in rows}) == len(rows) == 20 * (3 + 3 * 30)
    assert sum(cell is not None for row in rows for cell in row.cells) == cluster.values


def test_bytes_are_whole_pages_and_most_pods_move():
    pods = [one for cluster in fleet(60) for one in cluster.series if one.key.kind == "pod"]
    memory = FIELD_NAMES["pod"].index("mem_ws")
    columns = [column for one in pods if (column := one.columns[memory]) is not None]
    assert all(value % PAGE == 0 for column in columns for value in column)
    moving = sum(len(set(column)) > 30 for column in columns) / len(columns)
    assert 0.5 < moving < 0.7
