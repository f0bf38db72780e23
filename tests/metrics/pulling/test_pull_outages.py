"""Outages of an agent, its tunnel or the centre: told while they last, and filled afterwards."""

from __future__ import annotations

from datetime import UTC, datetime

import orjson
from aiohttp import web

from metrics.models import PullSchedule
from metrics.pulling.backfill import backfill_cluster
from metrics.pulling.pull import pull_cluster
from metrics.pulling.stream import Stream
from metrics.series.catalog import FIELD_NAMES
from metrics.series.rows import Cell, MinuteRow, SeriesKey
from metrics.series.windows import STREAM
from metrics.stores import StoreError
from metrics.stores.writer import Batch
from tests.factories import TunnelSessionFactory
from tests.fleet.answers import SimulatedAgent
from tests.fleet.world import World
from tests.metrics.conftest import ledger_of, status_of, story
from tests.metrics.pulling.answers import app_of, json_answer
from tests.metrics.pulling.spooled import T0, assert_store_equals_source, at, pull, tunnel


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


def test_a_failing_outage_names_the_first_reason_and_the_answer_ends_it(agent, pullable, stand):
    agent.record(0, 30)
    pull(agent, pullable, 12.1)
    good = stand.ports[pullable.pk]
    stand.serve(pullable, app_of(json_answer(b"<html>")))
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

    stand.serve(pullable, app_of(choosy))
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
