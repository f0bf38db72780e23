"""An invented cluster: nodes, filesystems and pods whose numbers are seeded random walks.

Every value is a pure function of (seed, cluster, series, minute), so that any minute of the past
can be requested again and gives the same answer: that makes gaps fillable and duplicates visible.
The walks come from a few tables made once per seed; a series reads one of them at its own offset,
so that a fleet of 30,000 pods costs no memory.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache

WALK_MINUTES = 1 << 14  # the walks repeat after 11 days
SAMPLES = 4  # of 15 s in a minute
_GIB = 1 << 30
_WORKLOADS = ("api", "web", "ledger", "worker", "kafka", "etl", "auth", "cache", "mail", "report")
_NAMESPACES = ("payments", "streams", "default", "monitoring", "kube-system")


@lru_cache(maxsize=8)
def walks(seed: int) -> tuple[tuple[int, ...], ...]:
    """Return eight closed random walks of :data:`WALK_MINUTES` steps, in permille 0..1000.

    Closed means that the end meets the beginning, so that a walk may be read in a circle.
    """
    rng = random.Random(seed)
    made = []
    for _ in range(8):
        steps = [rng.gauss(0, 1) for _ in range(WALK_MINUTES)]
        level, path = 0.0, []
        for step in steps:
            level = 0.995 * level + step  # pulled back, so that it stays in bounds
            path.append(level)
        slope = (path[-1] - path[0]) / (WALK_MINUTES - 1)
        path = [value - slope * index for index, value in enumerate(path)]
        low, high = min(path), max(path)
        made.append(tuple(round(1000 * (v - low) / (high - low)) for v in path))
    return tuple(made)


@dataclass(frozen=True, slots=True)
class Series:
    """One number over time: ``base`` plus up to ``swing``, along one walk."""

    base: int
    swing: int
    walk: int
    offset: int

    def cell(self, seed: int, minute: int) -> tuple[int, int, int, int]:
        """Return (n, sum, min, max) of the minute's four samples."""
        walk = walks(seed)[self.walk]
        here = walk[(minute + self.offset) % WALK_MINUTES]
        after = walk[(minute + 1 + self.offset) % WALK_MINUTES]
        first = self.base + self.swing * here // 1000
        last = self.base + self.swing * after // 1000
        # Four samples on the way from this minute's value to the next one's.
        total = first * SAMPLES + (last - first) * 6 // SAMPLES
        return SAMPLES, total, min(first, last), max(first, last)


@dataclass(frozen=True, slots=True)
class Pod:
    """One pod slot of a node; with churn its name changes every ``lifetime`` minutes."""

    ns: str
    workload: str
    slot: int
    node: int
    cpu: Series
    mem: Series
    net: Series
    lifetime: int  # minutes; 0 = for ever

    def name(self, seed: int, minute: int) -> str:
        """Return the pod's name in that minute."""
        generation = (minute + self.slot * 7) // self.lifetime if self.lifetime else 0
        return _pod_name(seed, self.workload, self.slot, generation)


@dataclass(frozen=True, slots=True)
class Node:
    """One machine."""

    name: str
    cores: int
    mem_cap: int
    disk_cap: int
    load: Series
    mem: Series
    net: Series
    disk: Series
    booted: int  # minute


@dataclass
class World:
    """One cluster's inventory, made from its seed."""

    seed: int
    index: int
    nodes: list[Node] = field(default_factory=list)
    pods: list[Pod] = field(default_factory=list)

    @classmethod
    def make(
        cls,
        seed: int,
        index: int,
        *,
        nodes: int | None = None,
        pods_per_node: int = 30,
        churn: bool = False,
    ) -> World:
        """Return cluster ``index`` of the fleet ``seed``: 3 to 20 nodes unless told."""
        rng = random.Random(f"{seed}/{index}")
        world = cls(seed, index)
        for number in range(nodes or rng.randint(3, 20)):
            world.nodes.append(_make_node(rng, number))
            world.pods += [
                _make_pod(rng, number, slot, churn=churn) for slot in range(pods_per_node)
            ]
        return world

    def node_rows(self, minute: int) -> Iterator[tuple[Node, dict[str, tuple[int, int, int, int]]]]:
        """Yield every node with its cells of one minute (Unix time // 60)."""
        per_node = len(self.pods) // max(1, len(self.nodes))
        for node in self.nodes:
            rx = node.net.cell(self.seed, minute)
            yield (
                node,
                {
                    "cpu_mc": node.load.cell(self.seed, minute),
                    "cpu_cap_mc": constant(node.cores * 1000),
                    "mem_ws": node.mem.cell(self.seed, minute),
                    "mem_cap": constant(node.mem_cap),
                    "fs_used": node.disk.cell(self.seed, minute),
                    "fs_cap": constant(node.disk_cap),
                    "inodes_total": constant(node.disk_cap // 16384),
                    "inodes_free": constant(node.disk_cap // 16384 * 7 // 10),
                    "net_rx_bps": rx,
                    "net_tx_bps": tuple(v // 2 if k else v for k, v in enumerate(rx)),  # type: ignore[dict-item]
                    "load1_m": node.load.cell(self.seed, minute),
                    "uptime_s": constant(max(0, minute - node.booted) * 60),
                    "pods": constant(per_node),
                    "ready": constant(1),
                },
            )

    def pod_rows(
        self, minute: int
    ) -> Iterator[tuple[Pod, str, dict[str, tuple[int, int, int, int]]]]:
        """Yield every pod, its name and its cells of one minute."""
        seed = self.seed
        for pod in self.pods:
            mem, net = pod.mem.cell(seed, minute), pod.net.cell(seed, minute)
            yield (
                pod,
                pod.name(seed, minute),
                {
                    "cpu_mc": pod.cpu.cell(seed, minute),
                    "mem_ws": mem,
                    "mem_rss": mem,
                    "fs_used": constant(pod.mem.base // 4096 * 64),
                    "net_rx_bps": net,
                    "net_tx_bps": net,
                    "restarts": constant(0),
                },
            )


@lru_cache(maxsize=200_000)
def _pod_name(seed: int, workload: str, slot: int, generation: int) -> str:
    digest = hashlib.blake2s(f"{seed}/{workload}/{slot}/{generation}".encode()).hexdigest()
    return f"{workload}-{digest[:8]}-{slot}"


@lru_cache(maxsize=100_000)
def constant(value: int) -> tuple[int, int, int, int]:
    """Return the cell of a value that did not move."""
    return SAMPLES, value * SAMPLES, value, value


def _series(rng: random.Random, base: int, swing: int) -> Series:
    return Series(base, swing, rng.randrange(8), rng.randrange(WALK_MINUTES))


def _make_node(rng: random.Random, number: int) -> Node:
    cores = rng.choice((4, 8, 8, 16))
    mem_cap = cores * 4 * _GIB
    disk = rng.choice((100, 200, 500)) * _GIB
    return Node(
        name=f"node-{number + 1}",
        cores=cores,
        mem_cap=mem_cap,
        disk_cap=disk,
        load=_series(rng, cores * rng.randint(40, 250), cores * rng.randint(150, 450)),
        mem=_series(rng, mem_cap * rng.randint(25, 50) // 100, mem_cap * 25 // 100),
        net=_series(rng, 100_000, rng.randint(1, 40) * 1_000_000),
        disk=_series(rng, disk * rng.randint(20, 55) // 100, disk * 10 // 100),
        booted=rng.randrange(29_000_000, 29_600_000),
    )


def _make_pod(rng: random.Random, node: int, slot: int, *, churn: bool) -> Pod:
    active = rng.random() < 0.6
    cpu = int(rng.lognormvariate(3.2, 1.1)) if active else 1
    mem = (int(rng.lognormvariate(4.5, 1.0)) + 8) << 20
    return Pod(
        ns=rng.choice(_NAMESPACES),
        workload=rng.choice(_WORKLOADS),
        slot=node * 1000 + slot,
        node=node,
        cpu=_series(rng, cpu // 2, cpu),
        mem=_series(rng, mem, mem // 4 if active else 0),
        net=_series(rng, 0, 200_000 if active else 0),
        lifetime=rng.randint(20, 240) if churn else 0,
    )
