"""Outages of any length with a source that forgets minutes and keeps wider values for longer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from django.db import connection
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clusters.models import Cluster, ClusterStatus
from metrics.connections import connect
from metrics.connections.config import read_config, remove_source, save_source
from metrics.models import PullSchedule
from metrics.pulling.backfill import backfill_cluster
from metrics.pulling.progress import measured
from metrics.pulling.pull import pull_cluster
from metrics.pulling.requests import plan
from metrics.pulling.stream import CLUSTER_KEY
from metrics.retention.in_force import retention_of
from metrics.series.rows import Cell, SeriesKey
from metrics.series.windows import STREAM
from metrics.stores import get_store
from opscenter.core.errors import BadResponseError, ConsentOffError, ServiceUnavailableError
from tests.examples import examples
from tests.factories import ClusterFactory
from tests.metrics.conftest import ledger_of, status_of
from tests.metrics.pulling.scripted import (
    DAY,
    NODES,
    ScriptedSource,
    answer_as,
    nowhere,
    value,
)

HOUR = 3600
BELOW_ZERO = "node cpu_mc below zero"
T0 = 1_800_000_000 - 1_800_000_000 % DAY


@pytest.fixture
def source(monkeypatch) -> ScriptedSource:
    one = ScriptedSource(born=T0)
    answer_as(monkeypatch, "influxdb", one)
    return one


@pytest.fixture
def site(db, store, redis_server, source, admin) -> Cluster:
    return make_site(admin)


def make_site(actor, name: str = "north-1") -> Cluster:
    cluster = ClusterFactory(name=name, current__tunnel_up=True)
    save_source(cluster, read_config("influxdb"), actor=actor)
    return cluster


def pull(cluster: Cluster, now: float):
    return pull_cluster(cluster.pk, now, connect=nowhere)


def fill(cluster: Cluster, now: float, runs: int = 50):
    """Fill until no gap is open; return all that was asked for."""
    asked = []
    for _ in range(runs):
        result = backfill_cluster(cluster.pk, now, connect=nowhere)
        asked += result.requested
        if not result.open:
            break
    return asked


def tunnel(cluster: Cluster, *, up: bool) -> None:
    ClusterStatus.objects.filter(cluster=cluster).update(tunnel_up=up)


def schedule_of(cluster: Cluster) -> PullSchedule:
    return PullSchedule.objects.get(cluster=cluster)


def assert_neither_hole_nor_double(cluster: Cluster, start: int, end: int) -> None:
    """Compare every hour of [start, end) with what the source had, minute for minute."""
    store = get_store()
    for key, names in [(CLUSTER_KEY, NODES), *((SeriesKey("node", "", n), (n,)) for n in NODES)]:
        columns = store.read(cluster.pk, key, "cpu_mc", "1h", start, end)
        assert columns.t == list(range(start, end, HOUR)), key
        assert set(columns.n) == {60}, [
            (t - T0, n) for t, n in zip(columns.t, columns.n, strict=True) if n != 60
        ]
        for t, total in zip(columns.t, columns.total, strict=True):
            assert total == 60 * sum(value(name, t) for name in names)
    windows = [
        window for window in ledger_of(cluster) if window.start >= start and window.end <= end
    ]
    assert {window.state for window in windows} == {"done"}
    assert sum(window.expected for window in windows) == (end - start) // 60


OUTAGES = {"7 minutes": 7 * 60, "6 hours": 6 * HOUR, "30 hours": 30 * HOUR, "30 days": 30 * DAY}


@pytest.mark.parametrize("length", OUTAGES.values(), ids=OUTAGES.keys())
def test_an_outage_leaves_neither_hole_nor_double(site, source, length):
    start = T0 + 2 * HOUR
    for now in range(start, start + HOUR + 60, 60):
        assert pull(site, now + 100).outcome == "ok"
    fill(site, start + HOUR + 170)
    tunnel(site, up=False)
    assert pull(site, start + HOUR + 200).code == "tunnel_down"
    tunnel(site, up=True)
    back = start + HOUR + 100 + length
    back += -back % HOUR + 100
    live = pull(site, back)
    assert live.outcome == "ok"
    assert live.end == int(back - 90) // 60 * 60
    asked = fill(site, back + 5)
    assert_neither_hole_nor_double(site, T0, back - back % HOUR - HOUR)
    assert len(asked) < 200
    held = {window.resolution for window in ledger_of(site)}
    assert held == ({60} if length < DAY else {60, 300} if length < 28 * DAY else {60, 300, 3600})


def test_the_newest_gaps_come_first_then_those_that_are_forgotten_first(site, source):
    start = T0 + 2 * DAY
    pull(site, start)
    fill(site, start + 1)
    back = start + 30 * HOUR
    pull(site, back)
    source.asked.clear()
    fill(site, back + 1)
    recent = [end for start_, end in source.asked if start_ >= back - HOUR]
    assert recent == sorted(recent, reverse=True)
    rest = source.asked[len(recent) :]
    raw = [ask for ask in rest if ask[0] >= back - DAY + 600]
    assert rest[: len(raw)] == raw, "minutes that are about to be forgotten come before the rest"
    assert raw == sorted(raw)
    assert rest[len(raw) :] == sorted(rest[len(raw) :])


def test_the_first_pull_reaches_as_far_back_as_the_source_and_the_retention(site, source):
    now = T0 + 60 * DAY
    pull(site, now + 100)
    fill(site, now + 101)
    assert_neither_hole_nor_double(site, T0, now - HOUR)


def test_a_question_that_is_too_long_is_cut_until_it_is_answered(site, source):
    source.most = 1800
    pull(site, T0 + 10 * HOUR)
    backfill_cluster(site.pk, T0 + 10 * HOUR + 1, connect=nowhere)
    assert_neither_hole_nor_double(site, T0, T0 + 9 * HOUR)
    lengths = [end - start for start, end in source.asked]
    assert max(lengths[-5:]) <= 1800


def test_a_bad_window_does_not_keep_the_others_from_being_filled(site, source, monkeypatch):
    pull(site, T0 + 5 * HOUR)
    good = ScriptedSource.fetch

    async def fetch(self, client, start, end, *, now, slot):
        if start <= T0 + HOUR < end:
            raise BadResponseError("influxdb of north-1: NaN", problem="bad_value")
        return await good(self, client, start, end, now=now, slot=slot)

    monkeypatch.setattr(ScriptedSource, "fetch", fetch)
    backfill_cluster(site.pk, T0 + 5 * HOUR + 1, connect=nowhere)
    left = [window for window in ledger_of(site) if window.state == "gap"]
    assert [(window.start, window.end) for window in left] == [(T0 + HOUR, T0 + HOUR + 600)]
    monkeypatch.setattr(ScriptedSource, "fetch", good)
    fill(site, T0 + 5 * HOUR + 700)
    assert_neither_hole_nor_double(site, T0, T0 + 4 * HOUR)


def test_a_loss_is_said_only_when_the_source_says_that_it_has_nothing(site, source):
    source.down = lambda minute: T0 + HOUR <= minute < T0 + 2 * HOUR
    pull(site, T0 + 4 * HOUR)
    source.error = ServiceUnavailableError("influxdb of north-1: answered with status 500")
    for attempt in range(30):
        backfill_cluster(site.pk, T0 + 4 * HOUR + attempt, connect=nowhere)
    assert not [window for window in ledger_of(site) if window.state == "lost"]
    source.error = None
    fill(site, T0 + 5 * HOUR)
    lost = [window for window in ledger_of(site) if window.state == "lost"]
    assert (lost[0].start, lost[-1].end) == (T0 + HOUR, T0 + 2 * HOUR)
    assert {window.reason for window in lost} == {"lost_at_source"}


def test_consent_that_is_off_is_the_reason_of_the_gap(site, source):
    for minute in range(10):
        pull(site, T0 + HOUR + 60 * minute + 100)
    source.error = ConsentOffError("influxdb of north-1: the agent does not offer influxdb")
    for minute in range(10, 60):
        assert pull(site, T0 + HOUR + 60 * minute + 100).code == "consent_off"
    gaps = [
        window for window in ledger_of(site) if window.state == "gap" and window.start > T0 + HOUR
    ]
    assert {window.reason for window in gaps} == {"consent_off"}
    assert "does not offer influxdb" in gaps[-1].detail
    assert status_of(site).pull_error_code == "consent_off"


@pytest.mark.parametrize("delay", [600, HOUR, 6 * HOUR])
def test_data_that_comes_late_is_picked_up(site, source, delay):
    start = T0 + 3 * HOUR
    window = range(start + 600, start + 1200, 60)
    source.late = {("n2", minute): minute + 60 + delay for minute in window}
    source.late |= {("web-1", start + 660): start + 660 + 60 + delay}
    for now in range(start, start + 8 * HOUR, 600 if delay > HOUR else 120):
        assert pull(site, now + 100).outcome == "ok"
        backfill_cluster(site.pk, now + 101, connect=nowhere)
    assert_neither_hole_nor_double(site, start - HOUR, start + HOUR)
    pods = get_store().read(
        site.pk, SeriesKey("pod", "default", "web-1"), "cpu_mc", "1m", start, start + HOUR
    )
    assert len(pods.t) == 60


def test_a_look_for_late_data_that_finds_none_writes_nothing(site, source, monkeypatch):
    start = T0 + 3 * HOUR
    for now in range(start, start + HOUR, 600):
        pull(site, now + 100)
        fill(site, now + 101)
    monkeypatch.setattr(
        "metrics.pulling.ledger_writer.write",
        lambda *_rest: pytest.fail("what is stored was written again"),
    )
    source.asked.clear()
    result = backfill_cluster(site.pk, start + HOUR + 101, connect=nowhere)
    assert source.asked
    assert (result.late, result.open) == (0, 0)


def test_an_agent_is_never_asked_for_late_data(db, store, redis_server):
    cluster = ClusterFactory(name="south-1", current__tunnel_up=True)
    PullSchedule.objects.create(cluster=cluster, due_at=datetime.now(UTC))
    result = backfill_cluster(cluster.pk, T0 + HOUR, connect=nowhere)
    assert (result.ran, result.requested) == (True, [])
    assert schedule_of(cluster).recheck_due_at is None


class RenamingSource(ScriptedSource):
    """Has the same nodes as the other source, by other names."""

    def _minutes(self, start, end, now):
        answer = super()._minutes(start, end, now)
        rows = [
            row._replace(key=row.key._replace(name=f"{row.key.name}.example:9100"))
            for row in answer.rows
        ]
        object.__setattr__(answer, "rows", sorted(rows))
        return answer


@pytest.fixture
def other(monkeypatch, source) -> RenamingSource:
    one = RenamingSource(born=T0)
    answer_as(monkeypatch, "prometheus", one)
    return one


def assert_every_minute_once(cluster: Cluster, start: int, end: int) -> None:
    columns = get_store().read(cluster.pk, CLUSTER_KEY, "cpu_mc", "1m", start, end)
    assert columns.t == list(range(start, end, 60))
    assert columns.total == [sum(value(name, t) for name in NODES) for t in columns.t]


def test_a_change_of_source_counts_no_minute_twice(site, source, other, admin):
    start = T0 + 2 * HOUR
    for now in range(start, start + HOUR, 60):
        pull(site, now + 100)
    fill(site, start + HOUR)
    save_source(site, read_config("prometheus"), actor=admin)
    site.refresh_from_db()
    for now in range(start + HOUR, start + 3 * HOUR, 60):
        assert pull(site, now + 100).outcome == "ok"
        if now % 600 == 0:
            backfill_cluster(site.pk, now + 101, connect=nowhere)
    assert_every_minute_once(site, T0, start + 3 * HOUR - 120)
    remove_source(site, actor=admin)


def replace_while_asked(monkeypatch, source: ScriptedSource, then: Callable[[], object]) -> None:
    """Do something once, while ``source`` is asked."""
    original, waiting = ScriptedSource.fetch, [then]

    async def fetch(self, client, start, end, **more):
        if self is source and waiting:
            await asyncio.to_thread(in_thread, waiting.pop())
        return await original(self, client, start, end, **more)

    monkeypatch.setattr(ScriptedSource, "fetch", fetch)


def in_thread(work: Callable[[], object]) -> None:
    try:
        work()
    finally:
        connection.close()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("first", [True, False], ids=["the first pull", "a later pull"])
def test_a_source_that_is_replaced_while_it_is_pulled_counts_no_minute_twice(
    site, source, other, admin, monkeypatch, first
):
    start = T0 + 2 * HOUR
    for now in range(start, start + (0 if first else 600), 60):
        assert pull(site, now + 100).outcome == "ok"
    at = start + 600

    def replace() -> None:
        moment = datetime.fromtimestamp(at + 100.5, UTC)
        save_source(site, read_config("prometheus"), actor=admin, now=moment)

    replace_while_asked(monkeypatch, source, replace)
    result = pull(site, at + 100)
    assert (result.outcome, result.code) == ("skipped", "source_replaced")
    for now in range(at, at + 1200, 60):
        assert pull(site, now + 101).outcome == "ok"
    fill(site, at + 1200)
    assert_every_minute_once(site, T0 + HOUR, at + 1080)


@pytest.mark.django_db(transaction=True)
def test_a_source_that_is_replaced_while_it_fills_a_gap_counts_no_minute_twice(
    site, source, other, admin, monkeypatch
):
    start = T0 + 2 * HOUR
    for now in range(start, start + 600, 60):
        assert pull(site, now + 100).outcome == "ok"
    fill(site, start + 700)
    source.error = ServiceUnavailableError("away")
    for now in range(start + 600, start + 2400, 60):
        pull(site, now + 100)
    source.error = None
    at = start + 2400
    assert pull(site, at + 100).gaps_open

    def replace() -> None:
        moment = datetime.fromtimestamp(at + 100.5, UTC)
        save_source(site, read_config("prometheus"), actor=admin, now=moment)

    replace_while_asked(monkeypatch, source, replace)
    result = backfill_cluster(site.pk, at + 100, connect=nowhere)
    assert result.error == "source_replaced"
    fill(site, at + 102)
    for now in range(at + 60, at + 600, 60):
        assert pull(site, now + 101).outcome == "ok"
    assert_every_minute_once(site, T0 + HOUR, at + 480)


def test_a_run_for_an_agent_ends_what_was_due_of_another_source(site, source, admin):
    source.born = T0 + 2 * HOUR - 300
    pull(site, T0 + 2 * HOUR)
    remove_source(site, actor=admin)
    PullSchedule.objects.update(recheck_due_at=datetime.fromtimestamp(T0, UTC))
    backfill_cluster(site.pk, T0 + 2 * HOUR, connect=nowhere)
    assert schedule_of(site).recheck_due_at is None


def test_the_clock_of_the_source_is_measured(site, source):
    source.skew_seconds = 42.0
    pull(site, T0 + HOUR)
    assert 41_000 <= status_of(site).clock_skew_ms <= 42_000
    assert status_of(site).settle_seconds == 90


def test_data_ahead_of_our_clock_is_said(site, source, monkeypatch):
    original = ScriptedSource._answer

    def ahead(self, start, end, now, **more):
        answer = original(self, start, end, now, **more)
        object.__setattr__(answer, "newest_end", int(now) + 900)
        return answer

    monkeypatch.setattr(ScriptedSource, "_answer", ahead)
    pull(site, T0 + HOUR)
    assert schedule_of(site).notes[0].startswith("its newest data is 15 min ahead of our clock")


def test_progress_is_kept_while_a_run_goes_on(site, source, monkeypatch):
    now = T0 + 5 * DAY
    pull(site, now)
    monkeypatch.setattr("metrics.pulling.backfill.SHOW_SECONDS", 0)
    seen = []
    monkeypatch.setattr(
        "metrics.pulling.backfill.realtime.publish",
        lambda *_what: seen.append(schedule_of(site).progress.get("done", 0)),
    )
    fill(site, now + 1)
    assert seen[:-1] == sorted(seen[:-1])
    assert seen[-2] > 5000
    assert seen[-1] == 0  # nothing is left


def test_rows_whose_time_is_far_off_are_left_out_and_counted(site, source, monkeypatch):
    now = T0 + 30 * HOUR
    pull(site, now)
    original = ScriptedSource._minutes

    def odd(self, start, end, at):
        answer = original(self, start, end, at)
        far = [answer.rows[0]._replace(ts=at_) for at_ in (T0, int(now) // 60 * 60 + 900)]
        object.__setattr__(answer, "rows", [*answer.rows, *far])
        return answer

    monkeypatch.setattr(ScriptedSource, "_minutes", odd)
    assert pull(site, now + 60).outcome == "ok"
    schedule = schedule_of(site)
    assert schedule.rejected_rows == 2
    assert schedule.rejected_detail.startswith("2 rows were left out because their time is far off")
    assert schedule.rejected_at == datetime.fromtimestamp(now + 60, UTC)
    columns = get_store().read(site.pk, CLUSTER_KEY, "cpu_mc", "1m", 0, 1 << 40)
    assert min(columns.t) > T0
    assert max(columns.t) < now


def test_progress_tells_what_is_left_and_how_long_it_takes(site, source, monkeypatch):
    now = T0 + 20 * DAY
    pull(site, now)
    monkeypatch.setattr("metrics.pulling.requests.plan", lambda *rest: plan(*rest)[:1])  # one a run
    backfill_cluster(site.pk, now + 1, connect=nowhere)
    backfill_cluster(site.pk, now + 31, connect=nowhere)
    kept = schedule_of(site).progress
    found = measured([window for window in ledger_of(site) if window.state == "gap"], kept)
    assert found.since == now + 1
    assert found.minutes_done == 20
    assert found.minutes_left > 20_000
    assert found.oldest == T0
    assert found.minutes_per_second == pytest.approx(20 / 30, rel=0.3)
    assert found.seconds_left == pytest.approx(found.minutes_left / found.minutes_per_second)
    monkeypatch.setattr("metrics.pulling.requests.plan", plan)
    fill(site, now + 60)
    assert schedule_of(site).progress == {}


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["tunnel", "service", "centre", "bad"]),
        st.integers(1, 40 * 24 * 6).map(lambda buckets: buckets * 600),  # how long, up to 40 days
        st.integers(1, 6),  # good pulls after it
        st.booleans(),  # whether gaps are filled before the next one
    ),
    min_size=1,
    max_size=3,
)


@settings(
    max_examples=examples(8),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(events=EVENTS)
def test_no_sequence_of_outages_leaves_a_hole_or_a_double(events, site, source, admin):
    cluster = make_site(admin, f"site-{Cluster.objects.count()}")
    now = T0 + 3 * HOUR + 100
    source.asked.clear()
    pull(cluster, now)
    for what, seconds, pulls, filled in events:
        tunnel(cluster, up=what != "tunnel")
        source.error = {
            "service": ServiceUnavailableError("x: refused"),
            "bad": BadResponseError("x: HTML", problem="not_json"),
        }.get(what)
        if what != "centre":
            for moment in (60, seconds // 2, seconds - 60):
                pull(cluster, now + moment)
        now += seconds
        tunnel(cluster, up=True)
        source.error = None
        for _ in range(pulls):
            now += 60
            assert pull(cluster, now).outcome == "ok"
        if filled:
            fill(cluster, now + 5)
    now += -now % HOUR + 100
    pull(cluster, now)
    fill(cluster, now + 5)
    assert_neither_hole_nor_double(cluster, T0, now - now % HOUR - HOUR)
    assert get_store().position(cluster.pk, STREAM).watermark >= now - now % HOUR - 90


def test_of_a_source_that_is_empty_at_first_no_more_is_asked_for_later_than_is_kept(site, source):
    source.born = T0 + 10 * HOUR
    assert pull(site, T0 + 3 * HOUR).outcome == "ok"
    site.refresh_from_db()
    limits = connect.connection_to(site, schedule_of(site), nowhere).limits
    assert limits.first_reach == min(364 * DAY, max(retention_of(site).seconds.values()))
    pull(site, T0 + 11 * HOUR)
    site.refresh_from_db()
    assert connect.connection_to(site, schedule_of(site), nowhere).limits.wanted is None


def test_values_that_cannot_be_true_are_left_out_and_counted_live_and_in_gaps(
    site, source, monkeypatch
):
    now = T0 + 30 * HOUR
    pull(site, now)
    original = ScriptedSource._minutes

    def broken(self, start, end, at):
        answer = original(self, start, end, at)
        rows = [
            row._replace(cells=(Cell(1, -3210, -3210, -3210), *row.cells[1:]))
            if row.key.kind == "node"
            else row
            for row in answer.rows
        ]
        return replace(answer, rows=rows)

    monkeypatch.setattr(ScriptedSource, "_minutes", broken)
    for minutes in (1, 40):  # the second one leaves a gap
        before = schedule_of(site).refused_values.get(BELOW_ZERO, [0])[0]
        assert pull(site, now + 60 * minutes).outcome == "ok"
        live = schedule_of(site).refused_values[BELOW_ZERO]
        assert live[0] > before
        assert live[1] == int(now) + 60 * minutes
    fill(site, now + 60 * 40 + 1)
    assert schedule_of(site).refused_values[BELOW_ZERO][0] > live[0]
    rows = list(get_store().scan(site.pk, "node", "1m", int(now), int(now) + HOUR))
    assert rows
    assert all(row.cells[0] is None and row.cells[2] is not None for row in rows)
