"""Live pulls and backfills against the agent's real API, spool and a real store."""

from __future__ import annotations

import asyncio
import gzip
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest
from aiohttp import web

from agent.api.app import AgentFacts, make_app
from agent.sampler import CollectorStatus
from agent.samples import make_sample
from agent.spool.spool import Spool
from clusters.models import Cluster, ClusterStatus
from metrics.models import PullSchedule
from metrics.pulling.backfill import backfill_cluster
from metrics.pulling.pull import pull_cluster
from metrics.pulling.schedule import back_off_seconds
from metrics.pulling.stream import Stream
from metrics.series.catalog import FIELD_NAMES
from metrics.series.rollups import rounded_mean
from metrics.series.rows import Cell, MinuteRow, SeriesKey
from metrics.series.windows import STREAM
from metrics.stores import StoreError
from metrics.stores.base import MetricStore
from metrics.stores.writer import Batch
from tests.factories import ClusterFactory, TunnelSessionFactory
from tests.fleet.answers import SimulatedAgent
from tests.fleet.world import World
from tests.metrics.conftest import Stand, ledger_of, status_of, story

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


@pytest.fixture
def agent(stand, pullable, tmp_path) -> Iterator[SpooledAgent]:
    one = SpooledAgent(stand, tmp_path / "spool.sqlite3")
    stand.serve(pullable, one.app)
    yield one
    one.close()


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


def test_the_first_pull_brings_the_newest_minutes_and_lists_the_past_as_gaps(
    agent, pullable, store
):
    Cluster.objects.filter(pk=pullable.pk).update(enrolled_at=datetime.fromtimestamp(at(38), UTC))
    agent.record(5, 40)
    result = pull(agent, pullable, 40.2)
    assert (result.outcome, result.gaps_open) == ("ok", True)
    assert story(pullable, T0) == [
        (5, 10, "gap", 0, "not_enrolled"),
        (10, 20, "gap", 0, "not_enrolled"),
        (20, 30, "gap", 0, "not_enrolled"),
        (30, 40, "done", 10, ""),
    ]
    position = store.position(pullable.pk, STREAM)
    assert (position.watermark, position.head) == (at(5), at(40))
    done = backfill_cluster(pullable.pk, at(40.3))
    assert (done.filled, done.open) == (3, 0)
    assert {w.state for w in ledger_of(pullable)} == {"done"}
    assert store.position(pullable.pk, STREAM).watermark == at(40)
    assert_store_equals_source(store, pullable, agent)


def test_pulls_minute_by_minute_store_every_number_once(agent, pullable, store):
    for minute in range(1, 25):
        agent.record(minute - 1, minute)
        assert pull(agent, pullable, minute + 0.1).outcome == "ok"
    assert story(pullable, T0) == [
        (0, 10, "done", 10, ""), (10, 20, "done", 10, ""), (20, 24, "done", 4, ""),
    ]  # fmt: skip
    assert_store_equals_source(store, pullable, agent)


def test_the_status_says_what_the_newest_minute_says(agent, pullable, settings):
    settings.JUDGE_ALL_FILESYSTEMS = True  # those of the test are tiny
    agent.record(0, 4)
    agent.now = at(4.1) + 4  # its clock is 4 s ahead
    pull_cluster(pullable.pk, at(4.1))
    status = status_of(pullable)
    assert status.data_as_of == datetime.fromtimestamp(at(4), UTC)
    assert (status.nodes_ready, status.nodes_total, status.nodes_not_ready) == (2, 2, [])
    assert (status.cpu_mc, status.cpu_cap_mc) == (rounded_mean(4 * 112 + 6, 4) + 50, 6000)
    assert (status.mem_ws, status.mem_cap) == (rounded_mean(4 + (12 + 13 + 14 + 15) * 7, 4), 10**9)
    assert (status.fs_worst_ratio, status.fs_worst_name) == (0.9, "n1 /")
    assert (round(status.inodes_worst_ratio, 3), status.inodes_worst_name) == (0.6, "n1 /")
    assert status.pods == 1
    assert len(status.cpu_history) == 60
    assert status.cpu_history[-4:] == [25, 26, 27, 27]
    assert status.cpu_history[:56] == [None] * 56
    assert 3000 <= status.clock_skew_ms <= 4000
    pullable.refresh_from_db()
    assert (pullable.agent_version, pullable.kind) == ("0.1.0", "host")
    agent.record(4, 5)
    pull(agent, pullable, 5.1)
    assert status_of(pullable).nodes_not_ready == ["n2"]
    agent.record(5, 6)
    pull(agent, pullable, 6.1)
    assert status_of(pullable).nodes_not_ready == []


def test_30_minutes_without_a_tunnel_are_filled_newest_first(agent, pullable, store):
    agent.record(0, 60)
    for minute in range(10, 14):
        pull(agent, pullable, minute + 0.1)
    backfill_cluster(pullable.pk, at(13.2))
    before = store.position(pullable.pk, STREAM)
    tunnel(pullable, up=False, reason="no answer to keep-alives")
    for minute in range(14, 44):
        result = pull(agent, pullable, minute + 0.1)
        assert (result.outcome, result.code) == ("failed", "tunnel_down")
    assert story(pullable, T0) == [
        (0, 10, "done", 10, story(pullable, T0)[0][4]),
        (10, 20, "gap", 3, "tunnel_down"),
        (20, 30, "gap", 0, "tunnel_down"),
        (30, 40, "gap", 0, "tunnel_down"),
        (40, 43, "gap", 0, "tunnel_down"),
    ]
    assert "no answer to keep-alives" in ledger_of(pullable)[2].detail
    assert store.position(pullable.pk, STREAM) == before
    assert status_of(pullable).pull_failures == 30
    assert status_of(pullable).pull_error_code == "tunnel_down"

    tunnel(pullable, up=True)
    assert pull(agent, pullable, 44.1).gaps_open
    assert status_of(pullable).pull_failures == 0
    assert story(pullable, T0)[1:] == [
        (10, 20, "gap", 3, "tunnel_down"),
        (20, 30, "gap", 0, "tunnel_down"),
        (30, 40, "done", 10, "tunnel_down"),
        (40, 44, "done", 4, "tunnel_down"),
    ]
    filled = backfill_cluster(pullable.pk, at(44.2))
    assert filled.requested == [(at(20), at(30)), (at(10), at(20))]
    assert (filled.filled, filled.lost, filled.open) == (2, 0, 0)
    lines = ledger_of(pullable)
    assert {w.state for w in lines} == {"done"}
    assert [w.filled_at for w in lines[1:]] == [int(at(44.2))] * 2 + [int(at(44.1))] * 2
    assert {w.reason for w in lines[1:]} == {"tunnel_down"}
    position = store.position(pullable.pk, STREAM)
    assert (position.watermark, position.head) == (at(44), at(44))
    agent.samples = {p: v for p, v in agent.samples.items() if p[0] < at(44)}
    assert_store_equals_source(store, pullable, agent)


def test_an_agent_that_was_stopped_leaves_a_loss_that_says_so(agent, pullable, store):
    agent.record(0, 12)
    pull(agent, pullable, 12.1)
    backfill_cluster(pullable.pk, at(12.2))
    agent.record(42, 45)
    assert pull(agent, pullable, 45.1).gaps_open
    result = backfill_cluster(pullable.pk, at(45.2))
    assert (result.lost, result.open) == (2, 0)
    assert [line[:4] for line in story(pullable, T0)] == [
        (0, 10, "done", 10), (10, 20, "lost", 2), (20, 30, "lost", 0), (30, 40, "lost", 0),
        (40, 45, "lost", 3),
    ]  # fmt: skip
    assert {w.reason for w in ledger_of(pullable) if w.state == "lost"} == {"agent_stopped"}
    assert store.position(pullable.pk, STREAM).watermark == at(45)
    assert_store_equals_source(store, pullable, agent)


def test_minutes_in_which_the_agent_saw_nothing_are_lost_and_not_asked_for_again(
    agent, pullable, store
):
    agent.record(0, 4)
    agent.record_blindness(4, 17, "the API server: HTTP 503")
    agent.record(17, 20)
    for minute in (4, 5, 6, 16, 20):
        assert not pull(agent, pullable, minute + 0.1).gaps_open
    assert story(pullable, T0) == [
        (0, 10, "lost", 4, "collector_failed"),
        (10, 20, "lost", 3, "collector_failed"),
    ]
    details = {window.detail for window in ledger_of(pullable)}
    assert details == {"the agent saw nothing: the API server: HTTP 503"}
    assert store.position(pullable.pk, STREAM).watermark == at(20)
    assert_store_equals_source(store, pullable, agent)


def test_minutes_in_which_nothing_was_seen_are_not_shown_as_new(agent, pullable):
    agent.record(0, 4)
    pull(agent, pullable, 4.1)
    agent.record_blindness(4, 8, "HTTP 503")
    for minute in (5, 6, 7, 8):
        pull(agent, pullable, minute + 0.1)
    assert status_of(pullable).data_as_of == datetime.fromtimestamp(at(4), UTC)


def test_an_agent_of_before_that_sends_nodes_without_values_has_no_data(agent, pullable, store):
    agent.record(0, 4)
    pull(agent, pullable, 4.1)
    agent.record_as_before(4, 8)
    for minute in (5, 6, 7, 8):
        pull(agent, pullable, minute + 0.1)
    [window] = ledger_of(pullable)
    assert (window.state, window.got, window.expected) == ("lost", 4, 8)
    assert (window.reason, window.detail) == (
        "collector_failed", "the agent saw nothing; it is too old to say why",
    )  # fmt: skip
    assert status_of(pullable).data_as_of == datetime.fromtimestamp(at(4), UTC)
    cluster = SeriesKey("cluster", "", "")
    named = store.read(pullable.pk, cluster, "nodes_total", "1m", T0, int(at(9)))
    assert named.t == [at(minute) for minute in range(4)]


def test_an_agent_that_has_never_seen_anything_has_a_ledger_that_says_so(agent, pullable):
    agent.record_blindness(0, 6, "HTTP 403")
    pull(agent, pullable, 6.1)
    assert story(pullable, T0) == [(0, 6, "lost", 0, "collector_failed")]
    assert status_of(pullable).data_as_of is None


def test_nodes_of_which_nothing_is_stored_are_no_stored_minute(store, pullable):
    """What an older version stored of an agent that saw nothing."""
    cells = [None] * len(FIELD_NAMES["node"])
    ready = [*cells]
    ready[FIELD_NAMES["node"].index("load1_m")] = Cell(1, 5, 5, 5)
    key = SeriesKey("node", "", "n1")
    rows = [MinuteRow(T0, key, tuple(cells)), MinuteRow(T0 + 60, key, tuple(ready))]
    store.write(pullable.pk, STREAM, Batch(rows=rows))
    assert Stream(store, pullable.pk, STREAM).stored(T0, T0 + 600) == {T0 + 60}


def test_a_centre_that_was_down_says_so_and_fills_the_gap(agent, pullable, store):
    TunnelSessionFactory(cluster=pullable, connected_at=datetime.fromtimestamp(at(-60), UTC))
    agent.record(0, 45)
    pull(agent, pullable, 10.1)
    pull(agent, pullable, 44.1)
    assert story(pullable, T0) == [
        (0, 10, "done", 10, ""),
        (10, 20, "gap", 0, "centre_down"),
        (20, 30, "gap", 0, "centre_down"),
        (30, 40, "done", 10, ""),
        (40, 44, "done", 4, ""),
    ]
    backfill_cluster(pullable.pk, at(44.2))
    agent.samples = {p: v for p, v in agent.samples.items() if p[0] < at(44)}
    assert_store_equals_source(store, pullable, agent)


def test_the_same_pull_again_changes_nothing(agent, pullable, store):
    agent.record(0, 10)
    pull(agent, pullable, 10.1)
    first = (story(pullable, T0), store.position(pullable.pk, STREAM))
    pull(agent, pullable, 10.1)
    assert (story(pullable, T0), store.position(pullable.pk, STREAM)) == first
    assert_store_equals_source(store, pullable, agent)


def test_an_agent_without_data_yet_is_well_and_leaves_no_ledger(agent, pullable, store):
    assert pull(agent, pullable, 5.1).outcome == "ok"
    assert story(pullable, T0) == []
    assert store.position(pullable.pk, STREAM).head is None
    assert PullSchedule.objects.get().due_at == datetime.fromtimestamp(at(6) + 4, UTC)
    assert status_of(pullable).pull_error_code == ""


def test_what_the_spool_has_forgotten_is_lost_with_the_reason(pullable, stand, store):
    simulated = SimulatedAgent(
        World.make(1, 1, nodes=1), born=T0, clock=lambda: now[0], history_minutes=60
    )
    now = [at(5.1)]
    stand.serve(pullable, simulated.make_app())
    pull_cluster(pullable.pk, now[0])
    now[0] = at(200.1)
    assert pull_cluster(pullable.pk, now[0]).gaps_open
    result = backfill_cluster(pullable.pk, now[0])
    assert result.open == 0
    told = story(pullable, T0)
    assert told[1] == (10, 20, "lost", 0, "spool_expired")
    assert told[-3][2:] == ("done", 10, "centre_down")
    assert store.position(pullable.pk, STREAM).watermark == at(200)


def test_pending_and_revoked_clusters_are_not_pulled(pullable, stand):
    for status in (Cluster.Status.PENDING, Cluster.Status.REVOKED):
        Cluster.objects.filter(pk=pullable.pk).update(status=status)
        assert pull_cluster(pullable.pk, at(1)).code == "not_active"
    assert stand.connections == {}


def test_while_the_hub_says_that_the_tunnel_is_down_nothing_is_asked(pullable, stand):
    tunnel(pullable, up=False)
    assert pull_cluster(pullable.pk, at(1)).code == "tunnel_down"
    assert stand.connections == {}


def test_failures_back_off_and_success_returns_to_the_interval(pullable, stand, settings):
    stand.serve(pullable, web.Application())  # 404 for everything
    waits = []
    for minute in range(1, 7):
        result = pull_cluster(pullable.pk, at(minute))
        assert result.code == "bad_response"
        schedule = PullSchedule.objects.get(cluster=pullable)
        waits.append((schedule.due_at - datetime.fromtimestamp(at(minute), UTC)).total_seconds())
    assert waits[:4] == [60, 120, 240, 480]
    assert back_off_seconds(5, 60) == back_off_seconds(50, 60) == 600
    assert PullSchedule.objects.get(cluster=pullable).failures == 6


def test_a_store_that_is_away_backs_off_from_nothing_and_spares_the_cluster(
    agent, pullable, store, stand, monkeypatch
):
    TunnelSessionFactory(cluster=pullable, connected_at=datetime.fromtimestamp(at(-60), UTC))
    agent.record(0, 50)
    assert pull(agent, pullable, 2.2).outcome == "ok"
    due_at = PullSchedule.objects.get(cluster=pullable).due_at

    def away(*_: object) -> None:
        msg = "it is away"
        raise StoreError(msg)

    with monkeypatch.context() as patch:
        patch.setattr(type(store), "write", away)
        patch.setattr(type(store), "ping", away)
        for minute in range(3, 45):
            result = pull(agent, pullable, minute + 0.2)
            assert result.code == "store_error"
    schedule = PullSchedule.objects.get(cluster=pullable)
    assert (schedule.due_at, schedule.failures) == (due_at, 0)  # the schedule's own next turn
    assert stand.connections[pullable.pk] == 2  # the good one and the first that failed
    assert pull(agent, pullable, 45.2).outcome == "ok"
    lost = [line for line in story(pullable, T0) if line[2] == "gap"]
    assert {line[4] for line in lost} == {"centre_down"}
    assert {w.detail for w in ledger_of(pullable) if w.state == "gap"} == {
        "Ops Center could not store it at the time"
    }
    with monkeypatch.context() as patch:
        patch.setattr(type(store), "write", away)
        assert backfill_cluster(pullable.pk, at(45.3)).error == "store_error"
    schedule.refresh_from_db()
    assert schedule.backfill_failures == 0
    assert schedule.backfill_due_at == datetime.fromtimestamp(at(46.3), UTC)
    assert backfill_cluster(pullable.pk, at(46.3)).open == 0
    assert {line[2] for line in story(pullable, T0)} == {"done"}


def _answer(**changes: object) -> dict[str, object]:
    start = int(at(0))
    table = {
        "series": [{"ns": "", "name": "n1", "node": "", "attrs": {}}],
        "t": [start], "i": [0], "fields": {"cpu_mc": {"n": [1], "s": [5], "l": [5], "h": [5]}},
    }  # fmt: skip
    return {
        "agent": {"version": "1", "kind": "host"}, "now": at(10), "oldest": start,
        "newest_end": start + 600, "start": start, "end": start + 600, "kinds": {"node": table},
    } | changes  # fmt: skip


def _table(**changes: object) -> dict[str, object]:
    table = dict(_answer()["kinds"]["node"])  # type: ignore[index]
    return {"kinds": {"node": table | changes}}


def _json(body: bytes, **headers: str):
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(body=body, content_type="application/json", headers=headers)

    return answer


async def _endless(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    while True:
        await response.write(b" " * 65536)


async def _slow(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    while True:
        await response.write(b" ")
        await asyncio.sleep(0.2)


async def _silent(request: web.Request) -> web.StreamResponse:
    await asyncio.sleep(3600)
    raise AssertionError


async def _redirect(request: web.Request) -> web.StreamResponse:
    raise web.HTTPFound("http://127.0.0.1:1/secret")


async def _reset(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def _html(request: web.Request) -> web.StreamResponse:
    return web.Response(text="<script>alert(1)</script>", content_type="text/html")


MILLION = [{"ns": "", "name": f"n{n}"} for n in range(1_000_000)]
HOSTILE = {
    "oversized": (_json(b"[" + b"1," * 1_000_000 + b"1]"), "too_large", "cap"),
    "endless": (_endless, "too_large", "cap"),
    "slow": (_slow, "service_down", "no complete answer"),
    "silent": (_silent, "service_down", "no complete answer"),
    "reset": (_reset, "service_down", "connection"),
    "gzip bomb": (
        _json(gzip.compress(b" " * 50_000_000, 9), **{"Content-Encoding": "gzip"}),
        "too_large", "cap",
    ),
    "half a gzip": (
        _json(gzip.compress(orjson.dumps(_answer()))[:-20], **{"Content-Encoding": "gzip"}),
        "cut_off", "breaks off",
    ),
    "not JSON": (_json(b"<html>"), "not_json", "not JSON"),
    "not said to be JSON": (_html, "not_json", "not JSON"),
    "NaN": (_json(b'{"now": NaN}'), "not_json", "not JSON"),
    "infinite": (_json(b'{"now": 1e999}'), "not_json", "not JSON"),
    "redirect": (_redirect, "redirect", "redirect"),
    "another shape": (_json(b"[]"), "bad_value", "not an object"),
    "wrong lengths": (
        _json(orjson.dumps(_answer(**_table(i=[0, 0])))), "bad_value", "2 entries, but 1 times",
    ),
    "future": (
        _json(orjson.dumps(_answer(**_table(t=[int(at(0)) + 86400 * 365])))),
        "bad_value", "in the future",
    ),
    "another window": (
        _json(orjson.dumps(_answer(start=int(at(-600))))), "bad_value", "asked for",
    ),
}  # fmt: skip


def _app(handler) -> web.Application:
    app = web.Application()
    app.router.add_get("/v1/range", handler)
    return app


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_answer_is_recorded_and_touches_nothing(
    case, agent, pullable, stand, store, settings
):
    settings.PULL_DEADLINE_SECONDS = 2
    settings.PULL_MAX_BYTES = 1_000_000
    handler, code, words = HOSTILE[case]
    hostile = ClusterFactory(name="evil-1", current__tunnel_up=True)
    stand.serve(hostile, _app(handler))
    agent.record(0, 10)
    result = pull_cluster(hostile.pk, at(10))
    generic = "service_down" if code == "service_down" else "bad_response"
    assert (result.outcome, result.code) == ("failed", generic)
    status = status_of(hostile)
    assert (status.pull_error_code, status.pull_failures) == (code, 1)
    assert words in status.pull_error
    assert status.data_as_of is None
    assert hostile.pk not in set(store.clusters()) or not store.last(hostile.pk, "node")
    assert ledger_of(hostile) == []
    assert pull(agent, pullable, 10.1).outcome == "ok"
    assert status_of(pullable).pull_failures == 0


def test_a_million_series_are_refused(pullable, stand, settings):
    settings.PULL_MAX_BYTES = 64_000_000
    body = orjson.dumps(_answer(**_table(series=MILLION)))
    stand.serve(pullable, _app(_json(body)))
    assert pull_cluster(pullable.pk, at(10)).code == "bad_response"
    assert "more than 20000 series" in status_of(pullable).pull_error


def test_hostile_names_are_stored_without_control_characters(pullable, stand, store):
    series = [{"ns": "", "name": 'n1\n\x1b[31m<img src=x onerror="alert(1)">\u202e'}]
    stand.serve(pullable, _app(_json(orjson.dumps(_answer(**_table(series=series))))))
    assert pull_cluster(pullable.pk, at(10)).outcome == "ok"
    [row] = store.last(pullable.pk, "node")
    assert row.key.name == 'n1[31m<img src=x onerror="alert(1)">'


def test_a_failing_outage_names_the_first_reason_and_the_answer_ends_it(agent, pullable, stand):
    agent.record(0, 30)
    pull(agent, pullable, 12.1)
    good = stand.ports[pullable.pk]
    stand.serve(pullable, _app(_json(b"<html>")))
    for minute in (13, 14, 15):
        assert pull(agent, pullable, minute + 0.1).code == "bad_response"
    assert story(pullable, T0)[-1] == (10, 15, "gap", 2, "bad_response")
    stand.ports[pullable.pk] = good
    assert not pull(agent, pullable, 16.1).gaps_open
    assert story(pullable, T0)[-1] == (10, 16, "done", 6, "bad_response")


def test_a_gap_that_is_answered_badly_does_not_hold_up_the_others(pullable, stand, store):
    simulated = SimulatedAgent(World.make(1, 1, nodes=1), born=T0, clock=lambda: now[0])
    now = [at(5.1)]
    asked: list[int] = []

    async def choosy(request: web.Request) -> web.StreamResponse:
        start, end = int(request.query["start"]), int(request.query["end"])
        asked.append((start - T0) // 60)
        if start <= at(30) < end:
            return web.Response(body=b"<html>", content_type="application/json")
        return web.Response(
            body=orjson.dumps(simulated.range(start, end)), content_type="application/json"
        )

    stand.serve(pullable, _app(choosy))
    pull_cluster(pullable.pk, now[0])
    now[0] = at(300.1)
    pull_cluster(pullable.pk, now[0])
    result = backfill_cluster(pullable.pk, now[0])
    assert result.open == 1
    [gap] = [w for w in ledger_of(pullable) if w.state == "gap"]
    assert (gap.start, gap.reason) == (at(30), "centre_down")
    schedule = PullSchedule.objects.get(cluster=pullable)
    assert schedule.backfill_due_at is not None
    assert store.position(pullable.pk, STREAM).watermark == at(30)


def test_two_workers_at_once_pull_once(pullable, stand):
    asked, entered, leave = [], threading.Event(), threading.Event()
    simulated = SimulatedAgent(World.make(1, 1, nodes=1), born=T0, clock=lambda: at(5.1))

    async def waiting(request: web.Request) -> web.StreamResponse:
        asked.append(request.path_qs)
        entered.set()
        await asyncio.to_thread(leave.wait, 20)
        start, end = int(request.query["start"]), int(request.query["end"])
        return web.Response(
            body=orjson.dumps(simulated.range(start, end)), content_type="application/json"
        )

    class Blocking(threading.Thread):
        def run(self) -> None:
            entered.wait(20)
            try:
                # Only the lease is touched: the other test database connection is not ours.
                self.second = pull_cluster(pullable.pk, at(5.1))
            finally:
                leave.set()

    stand.serve(pullable, _app(waiting))
    other = Blocking()
    other.start()
    first = pull_cluster(pullable.pk, at(5.1))
    other.join(30)
    assert (first.outcome, other.second.outcome, other.second.code) == ("ok", "skipped", "busy")
    assert len(asked) == 1


@pytest.mark.parametrize("behind", [3, 25, 300])
def test_a_cluster_whose_clock_is_behind_is_pulled_by_its_own_clock(agent, pullable, behind, store):
    """It samples now, and says that it was ``behind`` minutes ago."""
    for minute in range(400, 430):
        agent.record(minute - behind, minute - behind + 1)
        agent.now = at(minute + 1.1 - behind)
        pull_cluster(pullable.pk, at(minute + 1.1))
        backfill_cluster(pullable.pk, at(minute + 1.2))
    assert_store_equals_source(store, pullable, agent)
    assert {line.state for line in ledger_of(pullable)} == {"done"}
    assert status_of(pullable).clock_skew_ms == pytest.approx(-60_000 * behind, abs=5000)
    # A clock that is set right leaves a hole that says so, and goes on.
    agent.now = at(440.1)
    agent.record(439, 440)
    assert pull_cluster(pullable.pk, at(440.1)).outcome == "ok"
    pull_cluster(pullable.pk, at(440.2))
    backfill_cluster(pullable.pk, at(440.3))
    assert_store_equals_source(store, pullable, agent)
    assert "gap" not in {line.state for line in ledger_of(pullable)}


def test_a_clock_of_a_cluster_that_goes_back_is_told_and_its_minutes_are_as_new_as_they_are(
    agent, pullable, store
):
    for minute in range(380, 400):
        agent.record(minute, minute + 1)
        assert pull(agent, pullable, minute + 1.1).outcome == "ok"
    for minute in range(400, 410):
        agent.record(minute - 300, minute - 299)
        agent.now = at(minute + 1.1 - 300)
        seen_at = datetime.fromtimestamp(at(minute + 1.1), UTC)
        ClusterStatus.objects.update(tunnel_seen_at=seen_at)
        assert pull_cluster(pullable.pk, at(minute + 1.1)).outcome == "ok"
    status = status_of(pullable)
    assert abs(status.data_as_of.timestamp() - at(410)) < 5
    assert (status.state, status.settle_seconds) == ("degraded", 0), status.reason
    assert status.reason == "its clock is 18000 s behind"
    backfill_cluster(pullable.pk, at(411.2))
    assert_store_equals_source(store, pullable, agent)
