"""Outages of any length with a source that forgets minutes and keeps wider values for longer."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clusters.models import Cluster
from metrics.pulling.backfill import backfill_cluster
from metrics.pulling.progress import measured
from metrics.pulling.requests import plan
from metrics.pulling.stream import CLUSTER_KEY
from metrics.series.rows import Cell
from metrics.series.windows import STREAM
from metrics.stores import get_store
from opscenter.core.errors import BadResponseError, ConsentOffError, ServiceUnavailableError
from tests.examples import examples
from tests.metrics.conftest import ledger_of, status_of
from tests.metrics.pulling.outages import (
    HOUR,
    T0,
    assert_neither_hole_nor_double,
    fill,
    make_site,
    pull,
    schedule_of,
    tunnel,
)
from tests.metrics.pulling.scripted import (
    DAY,
    ScriptedSource,
    nowhere,
)

BELOW_ZERO = "node cpu_mc below zero"


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
