"""Since when something is off, by the stored minutes."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest

from clusters.conditions import Condition
from clusters.node_inventory import SeenNode
from metrics.pulling.since import date_conditions, date_nodes
from metrics.series.rows import SeriesKey
from metrics.series.windows import STREAM, utc_datetime
from metrics.stores.sqlite.store import SqliteStore
from metrics.stores.writer import Batch
from tests.metrics.stores.contract import row

T0 = 1_800_000_000
NODE = SeriesKey("node", "", "n1")
DISK = SeriesKey("filesystem", "n1", "/")
DOWN = [SeenNode("n1", ready=False)]


@pytest.fixture
def store(tmp_path):
    made = SqliteStore(tmp_path / "metrics.sqlite3")
    yield made
    made.close()


def write(store, cluster, key, values: dict[int, dict[str, int]]) -> int:
    """Write minutes by number; return the end of the last one."""
    rows = [row(key, T0 + 60 * minute, **fields) for minute, fields in values.items()]
    store.write(cluster, STREAM, Batch(rows=rows))
    return T0 + 60 * (max(values) + 1)


@pytest.mark.parametrize(
    ("ready", "minute", "at_least"),
    [
        ({0: 1, 1: 1, 2: 0, 3: 0}, 2, False),
        ({0: 1, 1: 0, 2: 1, 3: 0}, 3, False),
        ({0: 0, 1: 0, 3: 0}, 0, True),  # at the edge of history
        ({0: 1, 4: 0, 5: 0}, 4, True),  # nothing is known of the time before
        ({0: 1, 1: 0, 8: 0}, 1, False),  # a gap in between changes nothing
    ],
)
def test_a_node_is_not_ready_since_the_first_such_minute_after_a_good_one(
    store, ready, minute, at_least
):
    cluster = uuid4()
    end = write(store, cluster, NODE, {at: {"ready": value} for at, value in ready.items()})
    (node,) = date_nodes(store, cluster, DOWN, end, 0)
    assert (node.since, node.at_least) == (utc_datetime(T0 + 60 * minute), at_least)


def test_a_clock_that_is_off_is_taken_into_account(store):
    cluster = uuid4()
    end = write(store, cluster, NODE, {0: {"ready": 1}, 1: {"ready": 0}})
    (node,) = date_nodes(store, cluster, DOWN, end, 90.0)
    assert node.since == utc_datetime(T0 + 60) - timedelta(seconds=90)


def test_what_was_looked_up_before_is_not_looked_up_again(store):
    known = replace(DOWN[0], since=utc_datetime(T0))
    assert date_nodes(store, uuid4(), [known], T0 + 600, 0) == [known]


def test_a_filesystem_is_full_since_it_passed_the_limit_that_it_is_over(store):
    cluster = uuid4()
    used = {0: 50, 1: 85, 2: 85, 3: 95, 4: 96}
    end = write(
        store, cluster, DISK, {at: {"used": value, "cap": 100} for at, value in used.items()}
    )
    for ratio, minute in ((0.96, 3), (0.85, 1)):
        full = Condition(what="filesystem", node="n1", name="/", ratio=ratio)
        (dated,) = date_conditions(store, cluster, [full], end, 0)
        assert (dated.since, dated.at_least) == (utc_datetime(T0 + 60 * minute), False)


def test_what_lasts_longer_than_a_day_is_dated_by_hours(store):
    cluster = uuid4()
    minutes = {at: {"ready": int(at < 120)} for at in range(0, 40 * 60, 10)}
    end = write(store, cluster, NODE, minutes)
    (node,) = date_nodes(store, cluster, DOWN, end, 0)
    assert node.at_least
    hours = (node.since.timestamp() - T0) / 3600
    assert 2 <= hours <= 4
