"""M4: the queries of pages and the API, the same for every store."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from metrics.series.catalog import FIELD_NAMES
from metrics.series.rows import SeriesKey
from metrics.stores.base import MetricStore
from tests.bench.storedata import START, FakeCluster

STREAM = "agent"
DAY = 86_400
FLEET_MINUTES = 20  # that every cluster but the first has; the first has a day
NEWEST = START + DAY - 60

LATEST, POD, CLUSTER, TOP_ONE, TOP_ALL, TOP_RANGE, STRIP = (
    "latest of all nodes",
    "a day of one pod, 2 fields, 1,440 points",
    "a day of one cluster, 13 fields",
    "top 20 pods of a cluster",
    "top 20 pods of the fleet",
    "top 20 pods of the fleet over 15 minutes",
    "all pods of a cluster, a day in 10 minutes",
)


def batches(fakes: Sequence[FakeCluster]) -> list[tuple[FakeCluster, int]]:
    """Return (cluster, start) of ten-minute batches: a day of the first, then the fleet's
    newest."""
    wanted = []
    for number, fake in enumerate(fakes):
        first = START if number == 0 else START + DAY - 60 * FLEET_MINUTES
        wanted += [(fake, start) for start in range(first, START + DAY, 600)]
    return wanted


def questions(
    store: MetricStore, fakes: Sequence[FakeCluster]
) -> dict[str, Callable[[], Sequence[object] | dict[str, object]]]:
    """Return the queries by name; each call runs one and returns its answer."""
    one, pod = fakes[0], fakes[0].keys[20]
    whole, ids = SeriesKey("cluster", "", ""), [fake.id for fake in fakes]
    day = (START, START + DAY)
    fields = FIELD_NAMES["cluster"][:13]
    return {
        LATEST: lambda: [row for id_ in ids for row in store.last(id_, "node", since=NEWEST)],
        POD: lambda: store.read_fields(one.id, pod, ("cpu_mc", "mem_ws"), "1m", *day),
        CLUSTER: lambda: store.read_fields(one.id, whole, fields, "1m", *day),
        TOP_ONE: lambda: store.find(
            [one.id], "pod", "", since=NEWEST, order="cpu_mc", limit=20
        ),
        TOP_ALL: lambda: store.find(ids, "pod", "", since=NEWEST, order="cpu_mc", limit=20),
        TOP_RANGE: lambda: store.top(
            ids, "pod", "cpu_mc", "1m", START + DAY - 900, START + DAY, limit=20
        ),
        STRIP: lambda: store.read_many(one.id, "pod", "cpu_mc", "10m", *day),
    }  # fmt: skip
