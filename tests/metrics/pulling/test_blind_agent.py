"""A real collector of a cluster that loses sight of it: what the ledger and the status then say."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.api.app import AgentFacts, make_app
from agent.clock import stretch_at
from agent.collectors.kubeapi import KubeAccess
from agent.collectors.kubelet import KubeletCollector
from agent.sampler import Sampler
from agent.spool.spool import Spool
from metrics import query
from metrics.connections.connect import connection_to
from metrics.pulling.pull import pull_cluster
from metrics.series.source_answer import SourceAnswer
from metrics.sources.parse_concurrency import ParseSlot
from tests.agent.kubernetes import FakeKubernetes
from tests.metrics.conftest import Stand, ledger_of, status_of, story

T0 = 1_800_000_000

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("starts_servers")]


def at(minute: float) -> float:
    return T0 + minute * 60


class Agent:
    """The sampler, the collector of Kubernetes, the spool and the API of one agent."""

    boot = "b00t"

    def __init__(self, stand: Stand, path: Path) -> None:
        self._stand = stand
        self._elapsed = 0.0
        self.shift = at(0)
        self.kubernetes = FakeKubernetes(at(0))
        token = path / "token"
        token.write_text(self.kubernetes.token)
        access = KubeAccess(stand.run(self.kubernetes.start()), token, None)
        self._collector = KubeletCollector(access, list_seconds=30, summary_seconds=30)
        self._spool = stand.run(Spool.open(path / "spool.sqlite3"))
        self._sampler = Sampler(self._collector, self._spool, self)
        facts = AgentFacts(
            kind="kubernetes", hostname="far",
            collectors=lambda: {"kubelet": self._sampler.status},
        )  # fmt: skip
        self.app = make_app(
            self._spool, facts, now=self.time, stretch=lambda: stretch_at(self, self.time())
        )

    def time(self) -> float:
        return self._elapsed + self.shift

    def since_boot(self) -> float:
        return self._elapsed

    async def sleep(self, seconds: float) -> None:
        self._elapsed += seconds

    def run_until(self, minute: float) -> None:
        """Sample every 15 s until a minute by its own clock."""
        while self.time() + 15 < at(minute):
            self._stand.run(self._one())
        self._elapsed += at(minute) + 3 - self.time()

    async def _one(self) -> None:
        await self._sampler.wait_for_tick()
        await self._sampler.sample()

    def close(self) -> None:
        self._stand.run(self._collector.close())
        self._stand.run(self.kubernetes.stop())
        self._stand.run(self._spool.close())


@pytest.fixture
def agent(stand, pullable, tmp_path) -> Iterator[Agent]:
    one = Agent(stand, tmp_path)
    stand.serve(pullable, one.app)
    yield one
    one.close()


def lived(agent: Agent, cluster, first: int, last: int) -> None:
    for minute in range(first, last):
        agent.run_until(minute)
        assert pull_cluster(cluster.pk, at(minute) + 3).outcome == "ok"


def answer_of(cluster, start: float, end: float) -> SourceAnswer:
    with ParseSlot("live") as slot:
        return connection_to(cluster, None).fetch(int(start), int(end), end, slot, seconds=10)


def test_an_agent_that_cannot_see_its_cluster_has_no_data_and_says_why(agent, pullable):
    lived(agent, pullable, 1, 4)
    agent.kubernetes.refuse = {"/api/v1/nodes": 503}
    lived(agent, pullable, 4, 8)
    agent.kubernetes.refuse, agent.kubernetes.nodes = {}, []
    lived(agent, pullable, 8, 11)
    assert [line[:4] for line in story(pullable, T0)] == [(0, 10, "lost", 3)]
    [window] = ledger_of(pullable)
    assert window.reason == "collector_failed"
    assert "HTTP 503" in window.detail
    assert "lists no nodes" in window.detail
    assert status_of(pullable).data_as_of == datetime.fromtimestamp(at(3), UTC)
    range_ = query.range_query(
        pullable, query.SeriesKey("cluster", "", ""), "nodes_total", int(at(0)), int(at(10)),
        now=int(at(10)) + 3,
    )  # fmt: skip
    assert [(gap.reason, gap.got, gap.expected) for gap in range_.gaps] == [
        ("collector_failed", 3, 10)
    ]
    assert (range_.samples, range_.due) == ([1, 1, 1], 10)


def test_the_state_of_the_collector_travels_with_every_answer(agent, pullable):
    agent.kubernetes.summaries["n2"] = None  # its kubelet answers 503
    agent.run_until(2)
    seen = answer_of(pullable, at(0), at(2))
    assert seen.collector is not None
    assert (seen.collector.ok, list(seen.collector.problems)) == (True, ["n2"])
    assert (seen.lists_nodes, seen.failed) == (True, {})
    agent.kubernetes.refuse = {"/api/v1/nodes": 403}
    agent.run_until(4)
    blind = answer_of(pullable, at(0), at(4))
    assert blind.collector is not None
    assert (blind.collector.ok, blind.collector.last_at) == (False, at(1.75))
    assert "403" in blind.collector.error
    assert blind.failed.keys() == {at(2), at(3)}
    assert blind.minutes_alive == {at(0), at(1)}


def test_a_clock_that_is_set_forward_leaves_minutes_out_and_the_ledger_says_so(agent, pullable):
    lived(agent, pullable, 1, 3)
    agent.shift += 300
    agent.run_until(12)
    assert pull_cluster(pullable.pk, at(12) + 3).outcome == "ok"
    lost = [window for window in ledger_of(pullable) if window.state == "lost"]
    assert [(window.got, window.expected, window.reason) for window in lost] == [
        (5, 10, "clock_jumped")
    ]
    assert "was set from 2027-01-15 08:02 UTC to 2027-01-15 08:07 UTC" in lost[0].detail


def test_minutes_from_before_a_clock_was_set_back_are_not_shown_as_new(agent, pullable):
    lived(agent, pullable, 1, 9)
    agent.shift -= 300
    for minute in range(4, 8):  # by its clock; each has been recorded before
        agent.run_until(minute)
        assert pull_cluster(pullable.pk, at(minute + 5) + 3).outcome == "ok"
    assert status_of(pullable).data_as_of == datetime.fromtimestamp(at(8), UTC)
    agent.run_until(10)
    assert pull_cluster(pullable.pk, at(15) + 3).outcome == "ok"
    assert abs(status_of(pullable).data_as_of.timestamp() - at(15)) < 1


def test_a_clock_that_stands_still_makes_no_minute_newer(agent, pullable):
    lived(agent, pullable, 1, 4)
    for minute in range(4, 8):
        agent._elapsed += 60
        agent.shift -= 60
        assert pull_cluster(pullable.pk, at(minute) + 3).outcome == "ok"
    assert status_of(pullable).data_as_of == datetime.fromtimestamp(at(3), UTC)
