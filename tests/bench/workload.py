"""The fleet whose numbers every store and every peer gets: seeded log-normal random walks.

One value a minute and field, integers. 60 % of the pods are active, the others idle; bytes are
multiples of 4 KiB; network rates are noisy. Clusters have 3 to 20 nodes of 30 pods, so that 100
of them are about the fleet that Ops Center is made for: 1,000 nodes and 30,000 pods. The same
seed and size give the same numbers; only the time at which they begin is free, because servers
refuse data that is older than their retention.
"""

from __future__ import annotations

import math
import random
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from uuid import UUID

from metrics.series.catalog import FIELD_NAMES
from metrics.series.rows import Cell, MinuteRow, SeriesInfo, SeriesKey
from metrics.series.windows import Window
from metrics.stores.writer import Batch

SEED = 7
PODS_PER_NODE = 30
ACTIVE = 0.6
PAGE = 4096
GIB = 1 << 30
_NAMESPACES = ("payments", "streams", "default", "monitoring", "kube-system", "reports")


@dataclass(frozen=True, slots=True)
class Numbers:
    """One series: its name, and a column of minutes for each field of its kind.

    A column is None where the source does not measure the field.
    """

    key: SeriesKey
    node: str
    columns: tuple[array[int] | None, ...]

    def fields(self) -> Iterator[tuple[str, array[int]]]:
        """Yield the fields that are measured, with their columns."""
        for name, column in zip(FIELD_NAMES[self.key.kind], self.columns, strict=True):
            if column is not None:
                yield name, column


@dataclass(frozen=True, slots=True)
class Cluster:
    """One cluster's series, nodes first."""

    id: UUID
    name: str
    start: int
    minutes: int
    series: list[Numbers] = field(default_factory=list)

    @property
    def values(self) -> int:
        """Return how many values its source has of the whole time."""
        return self.minutes * sum(1 for one in self.series for _ in one.fields())

    def batch(self, first: int, minutes: int) -> Batch:
        """Return all rows of ``minutes`` minutes from minute ``first``, as one pull writes them."""
        rows = []
        for at in range(first, min(first + minutes, self.minutes)):
            ts = self.start + 60 * at
            rows += [MinuteRow(ts, one.key, _cells(one, at)) for one in self.series]
        begin, end = self.start + 60 * first, self.start + 60 * (first + minutes)
        infos = [SeriesInfo(one.key, one.node, {"phase": "Running"}) for one in self.series]
        window = Window(begin, end, "done", minutes, minutes, 1, "", "", None)
        return Batch(rows, infos, [window], end, end)


def make_fleet(
    clusters: int, minutes: int, start: int, *, seed: int = SEED, nodes: int | None = None
) -> Iterator[Cluster]:
    """Yield clusters one by one, so that a loader need not hold them all.

    Args:
        clusters: number of clusters.
        minutes: length of every series in minutes.
        start: first minute, Unix seconds.
        seed: seed of all numbers.
        nodes: nodes of each cluster; None for 3 to 20.
    """
    for number in range(clusters):
        rng = random.Random(f"{seed}/{number}")
        count = nodes or rng.choice((3, 5, 7, 9, 10, 10, 11, 12, 13, 20))
        cluster = Cluster(UUID(int=number + 1), f"bench-{number:03}", start, minutes)
        cluster.series.extend(_node(rng, f"node-{at:02}", minutes) for at in range(count))
        cluster.series.extend(
            _pod(rng, at, f"node-{at % count:02}", minutes) for at in range(count * PODS_PER_NODE)
        )
        yield cluster


def _cells(one: Numbers, at: int) -> tuple[Cell | None, ...]:
    return tuple(
        None if column is None else Cell(1, column[at], column[at], column[at])
        for column in one.columns
    )


def _walk(
    rng: random.Random, minutes: int, median: float, spread: float, step: float, noise: float = 0
) -> Iterator[float]:
    """Yield a log-normal walk that stays about its own median.

    Args:
        rng: source of random numbers.
        minutes: length in minutes.
        median: median of all such walks.
        spread: spread of their medians, in natural logarithms.
        step: step per minute, in natural logarithms.
        noise: independent noise per minute, in natural logarithms.
    """
    middle = math.log(median) + rng.gauss(0, spread)
    level = middle + rng.gauss(0, 10 * step)
    for _ in range(minutes):
        level += 0.02 * (middle - level) + rng.gauss(0, step)
        yield math.exp(level + rng.gauss(0, noise) if noise else level)


def _whole(values: Iterator[float], unit: int = 1, most: int = 1 << 50) -> array[int]:
    return array("q", (min(most, round(value / unit) * unit) for value in values))


def _flat(minutes: int, value: int) -> array[int]:
    return array("q", [value]) * minutes


def _stepping(rng: random.Random, minutes: int, value: int, chance: float) -> array[int]:
    """Return a number that stays, and with ``chance`` a minute moves by a few pages."""
    column = array("q")
    for _ in range(minutes):
        if rng.random() < chance:
            value = max(PAGE, value + PAGE * rng.randint(-3, 8))
        column.append(value)
    return column


def _pod(rng: random.Random, number: int, node: str, minutes: int) -> Numbers:
    app = rng.choice(("api", "web", "ledger", "worker", "kafka", "etl", "auth", "cache"))
    name = f"{app}-{rng.randrange(1 << 32):08x}-{number}"
    key = SeriesKey("pod", rng.choice(_NAMESPACES), name)
    make = _active_pod if rng.random() < ACTIVE else _idle_pod
    return Numbers(key, node, make(rng, minutes))


def _active_pod(rng: random.Random, minutes: int) -> tuple[array[int], ...]:
    memory = _whole(_walk(rng, minutes, 0.3 * GIB, 1.0, 0.004), PAGE)
    shared = PAGE * rng.randint(50, 5000)
    return (
        _whole(_walk(rng, minutes, 120, 1.2, 0.10)),
        memory,
        array("q", (max(PAGE, value - shared) for value in memory)),
        _stepping(rng, minutes, PAGE * rng.randint(10, 100_000), 0.3),
        _whole(_walk(rng, minutes, 20_000, 1.5, 0.05, 0.3)),
        _whole(_walk(rng, minutes, 15_000, 1.5, 0.05, 0.3)),
        _flat(minutes, rng.choice((0, 0, 0, 1, 3))),
    )


def _idle_pod(rng: random.Random, minutes: int) -> tuple[array[int], ...]:
    memory = _stepping(rng, minutes, PAGE * rng.randint(2_000, 30_000), 0.05)
    return (
        array("q", rng.choices((0, 1, 2), (80, 17, 3), k=minutes)),
        memory,
        array("q", (value // 2 // PAGE * PAGE for value in memory)),
        _flat(minutes, PAGE * rng.randint(1, 1000)),
        array("q", rng.choices((0, 42, 60, 84), (60, 25, 10, 5), k=minutes)),
        array("q", rng.choices((0, 42, 54), (70, 20, 10), k=minutes)),
        _flat(minutes, 0),
    )


def _node(rng: random.Random, name: str, minutes: int) -> Numbers:
    cores = rng.choice((4, 8, 16, 32))
    memory, disk = cores * 4 * GIB, rng.choice((100, 200, 500)) * GIB
    inodes, booted = disk // 16384, rng.randrange(1000, 10_000_000)
    columns = {
        "cpu_mc": _whole(_walk(rng, minutes, 300 * cores, 0.4, 0.05), most=1000 * cores),
        "cpu_cap_mc": _flat(minutes, 1000 * cores),
        "mem_ws": _whole(_walk(rng, minutes, memory / 2, 0.2, 0.003), PAGE, memory),
        "mem_cap": _flat(minutes, memory),
        "fs_used": _stepping(rng, minutes, disk // 3 // PAGE * PAGE, 0.9),
        "fs_cap": _flat(minutes, disk),
        "inodes_total": _flat(minutes, inodes),
        "inodes_free": array("q", (inodes // 2 - at // 3 for at in range(minutes))),
        "net_rx_bps": _whole(_walk(rng, minutes, 800_000, 0.8, 0.05, 0.2)),
        "net_tx_bps": _whole(_walk(rng, minutes, 600_000, 0.8, 0.05, 0.2)),
        "load1_m": _whole(_walk(rng, minutes, 300 * cores, 0.5, 0.08)),
        "uptime_s": array("q", range(booted, booted + 60 * minutes, 60)),
        "pods": _flat(minutes, PODS_PER_NODE),
        "ready": _flat(minutes, 1),
    }
    return Numbers(
        SeriesKey("node", "", name), "", tuple(columns.get(f) for f in FIELD_NAMES["node"])
    )
