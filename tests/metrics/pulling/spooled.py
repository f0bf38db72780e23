"""The agent's real API over a real spool, with samples and a clock that the test sets."""

from __future__ import annotations

from pathlib import Path

from agent.api.app import AgentFacts, make_app
from agent.sampler import CollectorStatus
from agent.samples import make_sample
from agent.spool.spool import Spool
from clusters.models import Cluster, ClusterStatus
from metrics.pulling.pull import pull_cluster
from metrics.series.catalog import FIELD_NAMES
from metrics.series.rollups import rounded_mean
from metrics.series.rows import SeriesKey
from metrics.stores.base import MetricStore
from tests.metrics.conftest import Stand

T0 = 1_800_000_000  # aligned to an hour


def at(minute: float) -> float:
    return T0 + minute * 60


class SpooledAgent:
    """The agent's own API over its own spool, with samples and a clock that the test sets."""

    def __init__(self, stand: Stand, path: Path) -> None:
        self.now = at(0)
        self._stand = stand
        self._spool = stand.run(Spool.open(path))
        self.facts = AgentFacts(
            kind="host", hostname="far", version="0.1.0",
            collectors=lambda: {"host": CollectorStatus(ok=True, error="")},
        )  # fmt: skip
        self.app = make_app(self._spool, self.facts, now=lambda: self.now)
        self.samples: dict[tuple[int, SeriesKey, str], list[int]] = {}

    def record(self, first: int, last: int) -> None:
        """Sample two nodes, a filesystem and a pod every 15 s of the minutes [first, last)."""
        for step in range(first * 4, last * 4):
            moment = at(0) + step * 15
            self._add(moment, "node", "", "n1", cpu_mc=100 + step, cpu_cap_mc=4000, ready=1,
                      mem_ws=1 + step * 7, mem_cap=10**9)  # fmt: skip
            self._add(moment, "node", "", "n2", cpu_mc=50, cpu_cap_mc=2000, ready=step // 4 % 2)
            self._add(moment, "filesystem", "n1", "/", used=900, cap=1000, inodes_total=10,
                      inodes_free=4)  # fmt: skip
            self._add(moment, "pod", "default", f"web-{step // 40}", cpu_mc=step % 11)

    def record_uptimes(self, minute: int, uptime: int) -> None:
        """Sample a node every 15 s of a minute, at whose beginning it has run for ``uptime`` s."""
        for step in range(4):
            self._add(at(minute) + 15 * step, "node", "", "n1", cpu_mc=100, cpu_cap_mc=4000,
                      ready=1, uptime_s=uptime + 15 * step)  # fmt: skip

    def record_blindness(self, first: int, last: int, error: str) -> None:
        """Run in the minutes [first, last) and see nothing."""
        for minute in range(first, last):
            self._stand.run(self._spool.add(at(minute), [], error=error))

    def record_as_before(self, first: int, last: int) -> None:
        """Do as an agent of before: send the nodes that were seen last, without values."""
        self.facts.collectors = dict
        for minute in range(first, last):
            nodes = [make_sample("node", name, {}) for name in ("n1", "n2")]
            self._stand.run(self._spool.add(at(minute), nodes))

    def close(self) -> None:
        self._stand.run(self._spool.close())

    def _add(self, moment: float, kind: str, ns: str, name: str, **values: int) -> None:
        sample = make_sample(kind, name, values, ns=ns)
        self._stand.run(self._spool.add(moment, [sample]))
        minute = int(moment // 60) * 60
        for field, value in values.items():
            self.samples.setdefault((minute, SeriesKey(kind, ns, name), field), []).append(value)


def pull(agent: SpooledAgent, cluster: Cluster, minute: float):
    agent.now = at(minute)
    return pull_cluster(cluster.pk, at(minute))


def tunnel(cluster: Cluster, *, up: bool, reason: str = "") -> None:
    ClusterStatus.objects.filter(cluster=cluster).update(tunnel_up=up, tunnel_reason=reason)


def assert_store_equals_source(store: MetricStore, cluster: Cluster, agent: SpooledAgent) -> None:
    """Compare every number of the store with what was sampled; none more, none less."""
    found = {}
    for kind in ("node", "filesystem", "pod"):
        for row in store.scan(cluster.pk, kind, "1m", int(at(-10_000)), int(at(10_000))):
            for field, cell in zip(FIELD_NAMES[kind], row.cells, strict=True):
                if cell is not None:
                    found[row.ts, row.key, field] = tuple(cell)
    expected = {
        place: (1, rounded_mean(sum(values), len(values)), min(values), max(values))
        for place, values in agent.samples.items()
    }
    assert found == expected
