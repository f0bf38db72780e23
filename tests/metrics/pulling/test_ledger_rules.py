"""The ledger's rules, by value and as invariants over random histories."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from metrics.connections.source_limits import FIRST_REACH, SourceLimits
from metrics.pulling import ledger_rules
from metrics.pulling.ledger_rules import Outage
from metrics.pulling.losses import Coverage, spans_left_out
from metrics.pulling.requests import plan
from metrics.series.windows import BUCKET, MINUTE, Window, floor_bucket, floor_minute
from tests.examples import examples

T0 = 1_800_000_000 - 1_800_000_000 % BUCKET  # 12:00 in the stories below


def at(minute: int) -> int:
    return T0 + minute * MINUTE


def window(start: int, end: int, state: str, got: int | None = None, **more) -> Window:
    expected = end - start
    return Window(
        at(start), at(end), state, expected if got is None else got, expected,
        more.get("attempts", 1), more.get("reason", ""), more.get("detail", ""),
        more.get("filled_at"),
    )  # fmt: skip


def minutes(start: int, end: int) -> set[int]:
    return set(range(at(start), at(end), MINUTE))


def answered(windows: list[Window], coverage: Coverage, **more) -> list[Window]:
    return ledger_rules.answered(windows, coverage, first=None, head=None, **more)


def test_a_live_pull_overlaps_the_head():
    assert ledger_rules.live_range(at(25), at(26) + 12.5) == (at(25), at(26))
    assert ledger_rules.live_range(at(25), at(26) + 12.5, overlap_seconds=120) == (at(23), at(26))


def test_a_live_pull_behind_an_outage_starts_at_a_slot_10_to_20_minutes_ago():
    assert ledger_rules.live_range(at(0), at(58) + 3) == (at(40), at(58))
    assert ledger_rules.live_range(at(0), at(60)) == (at(50), at(60))
    assert ledger_rules.live_range(None, at(69)) == (at(50), at(69))


def test_a_clock_that_went_back_still_asks_for_the_last_minutes():
    assert ledger_rules.live_range(at(50), at(10)) == (at(0), at(10))
    # Three minutes later, for none was asked between: none is left out.
    assert ledger_rules.live_range(at(50), at(13)) == (at(0), at(13))


def test_slots_are_aligned_and_clipped_at_both_ends():
    assert ledger_rules.buckets(at(7), at(23)) == [
        (at(7), at(10)),
        (at(10), at(20)),
        (at(20), at(23)),
    ]
    assert ledger_rules.buckets(at(7), at(7)) == []


def test_a_window_that_came_whole_is_done():
    [got] = answered(
        [], Coverage(at(0), at(10), at(-900)), stored=minutes(0, 10), now=at(11),
        live=True,
    )  # fmt: skip
    assert (got.state, got.got, got.expected, got.reason, got.filled_at) == (
        "done", 10, 10, "", None,
    )  # fmt: skip


def test_the_running_slot_grows_with_every_pull():
    before = window(0, 4, "done")
    [got] = answered(
        [before], Coverage(at(2), at(5), at(-9)), stored=minutes(0, 5), now=at(5),
        live=True,
    )  # fmt: skip
    assert (got.start, got.end, got.state, got.got, got.attempts) == (at(0), at(5), "done", 5, 2)


def test_minutes_that_the_source_covered_without_having_them_are_lost_to_a_stopped_agent():
    [got] = answered(
        [], Coverage(at(0), at(10), at(-900)), stored=minutes(0, 7), now=at(11),
        live=True,
    )  # fmt: skip
    assert (got.state, got.got, got.expected, got.reason) == ("lost", 7, 10, "agent_stopped")
    assert got.detail == "nothing was recorded"


def test_minutes_older_than_the_spool_are_lost_to_its_expiry():
    gap = window(0, 10, "gap", 0, reason="tunnel_down", detail="the tunnel was down")
    [got] = answered(
        [gap],
        Coverage(at(0), at(10), at(500)),
        stored=set(),
        now=at(600),
        live=False,
    )
    assert (got.state, got.reason) == ("lost", "spool_expired")
    assert got.detail.endswith("; before: the tunnel was down")


def lost_of(coverage: Coverage, stored: set[int], *known: Window, now: int = at(11)) -> Window:
    [got] = answered(list(known), coverage, stored=stored, now=now, live=True)
    return got


def test_minutes_in_which_the_agent_saw_nothing_are_lost_with_its_error():
    failed = dict.fromkeys(minutes(7, 10), "HTTP 503")
    got = lost_of(Coverage(at(0), at(10), at(-900), failed=failed), minutes(0, 7))
    assert (got.state, got.got, got.expected, got.reason) == ("lost", 7, 10, "collector_failed")
    assert got.detail == "the agent saw nothing: HTTP 503"


def test_a_source_that_lacks_minutes_says_nothing_of_an_agent():
    got = lost_of(Coverage(at(0), at(10), at(-900), is_agent=False), minutes(0, 7))
    assert (got.reason, got.detail) == ("lost_at_source", "the source has no data of it")


def test_a_source_whose_data_begins_anew_was_restarted_and_an_old_end_is_its_retention():
    empty = Coverage(at(0), at(10), at(7), is_agent=False)
    got = lost_of(empty, minutes(7, 10))
    assert (got.state, got.got, got.reason) == ("lost", 3, "source_restarted")
    assert "begins anew at 2027-01-15" in got.detail
    assert lost_of(empty, minutes(7, 10), now=at(60 * 24)).reason == "spool_expired"
    ours = Coverage(at(0), at(10), at(7))
    assert lost_of(ours, minutes(7, 10)).reason == "spool_expired"


def test_minutes_that_a_clock_was_set_over_are_lost_to_it():
    steps = spans_left_out([(at(2), at(2) + 15, at(9))])
    got = lost_of(Coverage(at(0), at(10), at(-9), left_out=steps), minutes(0, 2) | minutes(9, 10))
    assert (got.got, got.reason) == (3, "clock_jumped")
    assert got.detail.startswith("the clock of the source was set from 2027-01-15 ")


def test_a_step_back_ends_what_a_step_forward_left_out():
    far = (at(2), float(at(2)), float(at(5000)))
    back = (at(5001), float(at(5001)), float(at(4)))
    assert spans_left_out([far, back]) == [(at(2), at(4))]
    assert spans_left_out([far, (at(5001), float(at(5001)), float(at(-60)))]) == []


def test_the_most_frequent_reason_wins_and_the_detail_names_all():
    failed = dict.fromkeys(minutes(0, 3), "HTTP 503")
    got = lost_of(Coverage(at(0), at(10), at(-9), failed=failed), minutes(5, 10))
    assert got.reason == "collector_failed"
    assert got.detail == "the agent saw nothing: HTTP 503; also: nothing was recorded"


def test_a_lost_window_that_grows_keeps_the_reason_of_what_was_lost_before():
    window_0 = lost_of(
        Coverage(at(0), at(3), at(-9), failed=dict.fromkeys(minutes(0, 3), "HTTP 503")), set()
    )
    later = lost_of(Coverage(at(3), at(5), at(-9)), set(), window_0)
    assert (later.got, later.expected, later.reason) == (0, 5, "collector_failed")
    back = lost_of(Coverage(at(5), at(6), at(-9)), minutes(5, 6), later)
    assert (back.state, back.got, back.reason, back.detail) == (
        "lost", 1, "collector_failed", later.detail,
    )  # fmt: skip


def test_a_filled_gap_keeps_its_reason_and_says_when_it_was_filled():
    gap = window(0, 10, "gap", 4, reason="tunnel_down", detail="the tunnel was down")
    [got] = answered(
        [gap], Coverage(at(0), at(10), at(-9)), stored=minutes(0, 10), now=at(40),
        live=False,
    )  # fmt: skip
    assert (got.state, got.got, got.reason, got.filled_at) == ("done", 10, "tunnel_down", at(40))


def test_a_short_failure_is_mended_by_the_next_live_pull_alone():
    done = window(0, 4, "done")
    [gap] = ledger_rules.missed(
        [done], at(4), at(6), stored=minutes(0, 4), reason="service_down", detail="refused"
    )
    assert (gap.start, gap.end, gap.state, gap.got, gap.expected) == (at(0), at(6), "gap", 4, 6)
    [got] = answered(
        [gap], Coverage(at(2), at(7), at(-9)), stored=minutes(0, 7), now=at(7),
        live=True,
    )  # fmt: skip
    assert (got.state, got.end, got.reason) == ("done", at(7), "service_down")


def test_an_answer_for_a_part_of_a_gap_leaves_it_open():
    gap = window(0, 10, "gap", 0, reason="tunnel_down")
    [got] = answered(
        [gap], Coverage(at(0), at(4), at(-9)), stored=minutes(0, 4), now=at(40),
        live=False,
    )  # fmt: skip
    assert (got.state, got.got, got.reason) == ("gap", 4, "tunnel_down")


def test_a_dead_tunnel_explains_the_service_that_was_silent_just_before():
    known = [window(0, 4, "done")]
    stored = minutes(0, 4)
    silent = ledger_rules.missed(
        known, at(4), at(5), stored=stored, reason="service_down", detail="a"
    )
    assert [gap.reason for gap in silent] == ["service_down"]
    [dead] = ledger_rules.missed(
        silent, at(4), at(6), stored=stored, reason="tunnel_down", detail="b"
    )
    assert (dead.reason, dead.detail) == ("tunnel_down", "b")

    longer = ledger_rules.missed(
        known, at(4), at(6), stored=stored, reason="service_down", detail="a"
    )
    [kept] = ledger_rules.missed(
        longer, at(4), at(7), stored=stored, reason="tunnel_down", detail="b"
    )
    assert (kept.reason, kept.detail) == ("service_down", "a")


def test_the_first_failure_names_the_gap():
    first = ledger_rules.missed([], at(0), at(3), stored=set(), reason="tunnel_down", detail="a")
    [got] = ledger_rules.missed(
        first, at(0), at(5), stored=set(), reason="service_down", detail="b"
    )
    assert (got.reason, got.detail, got.attempts, got.end) == ("tunnel_down", "a", 2, at(5))


def test_a_hole_that_nobody_asked_for_was_the_centre_being_down():
    outage = Outage(last_attempt_at=at(3) + 5, error_code="", tunnel_up=[(at(-100), None)])
    put = ledger_rules.unrecorded_gaps(
        [window(0, 3, "done")], at(3), at(30), stored=minutes(0, 3), outage=outage
    )
    assert [(w.start, w.end, w.state, w.reason, w.got) for w in put] == [
        (at(0), at(10), "gap", "centre_down", 3),
        (at(10), at(20), "gap", "centre_down", 0),
        (at(20), at(30), "gap", "centre_down", 0),
    ]


def test_a_hole_before_the_last_attempt_with_no_session_was_the_tunnel():
    outage = Outage(last_attempt_at=at(50), error_code="tunnel_down", tunnel_up=[(at(-9), at(12))])
    put = ledger_rules.unrecorded_gaps([], at(10), at(30), stored=set(), outage=outage)
    assert {w.reason for w in put} == {"tunnel_down"}


def test_what_no_line_covers_begins_at_the_first_slot_that_is_not_whole():
    windows = [window(0, 10, "done"), window(10, 20, "gap"), window(20, 24, "gap")]
    assert ledger_rules.unaccounted(windows, at(4), at(24)) == at(24)
    assert ledger_rules.unaccounted(windows, at(4), at(25)) == at(20)
    assert ledger_rules.unaccounted([], at(4), at(25)) == at(4)


def test_the_past_of_a_new_cluster_is_from_before_it_was_enrolled():
    outage = Outage(last_attempt_at=None, error_code="", enrolled_at=at(20))
    put = ledger_rules.unrecorded_gaps([], at(7), at(30), stored=set(), outage=outage)
    assert [(w.start, w.reason) for w in put] == [
        (at(7), "not_enrolled"), (at(10), "not_enrolled"), (at(20), "pending"),
    ]  # fmt: skip


def test_the_watermark_stops_at_the_first_gap():
    windows = [
        window(0, 10, "done"),
        window(10, 20, "lost"),
        window(20, 30, "gap"),
        window(30, 40, "done"),
    ]
    assert ledger_rules.advance(windows, at(0)) == at(20)
    assert ledger_rules.advance([*windows[:2], window(20, 30, "done"), windows[3]], at(20)) == at(
        40
    )


def test_a_gap_that_fails_for_a_week_is_given_up_with_its_reason():
    gap = window(0, 10, "gap", 0, attempts=8, reason="tunnel_down", detail="the tunnel was down")
    later = at(0) + FIRST_REACH + 2 * BUCKET
    once = ledger_rules.refused(gap, later, reason="bad_response", detail="not JSON")
    assert (once.state, once.reason) == ("gap", "tunnel_down")
    twice = ledger_rules.refused(once, later, reason="bad_response", detail="not JSON")
    assert (twice.state, twice.reason) == ("lost", "bad_response")
    assert "not JSON" in twice.detail


@dataclass
class Stream:
    """A source and a centre, with the ledger's rules between them and a clock for both."""

    now: int = at(0)
    alive: set[int] = field(default_factory=set)  # minutes that the source recorded
    failed: set[int] = field(default_factory=set)  # minutes in which it ran and saw nothing
    stored: set[int] = field(default_factory=set)
    windows: dict[int, Window] = field(default_factory=dict)
    first: int | None = None
    head: int | None = None
    watermark: int | None = None
    last_attempt: int | None = None
    forgets_before: int = 0

    @property
    def oldest(self) -> int | None:
        kept = [m for m in self.alive | self.failed if m >= self.forgets_before]
        return min(kept) if kept else None

    def fetch(self, start: int, end: int) -> Coverage:
        self.stored |= {m for m in self.alive if start <= m < end and m >= self.forgets_before}
        failed = {m: "blind" for m in self.failed if start <= m < end}
        return Coverage(start, end, self.oldest, failed=failed)

    def put(self, windows: list[Window]) -> None:
        self.windows.update((w.start, w) for w in windows)

    def some(self, start: int, end: int) -> list[Window]:
        start = floor_bucket(start)
        return [w for w in self.windows.values() if w.end > start and w.start < end]

    def settle(self) -> None:
        before = self.watermark
        self.watermark = ledger_rules.advance(
            self.windows.values(), self.watermark or self.first or 0
        )
        assert before is None or self.watermark >= before

    def pull(self, *, ok: bool) -> None:
        start, end = ledger_rules.live_range(self.head, self.now)
        outage = Outage(self.last_attempt, "", [])
        self.last_attempt = self.now
        if not ok:
            if self.head is not None:
                recent = max(self.head, floor_bucket(self.now - BUCKET))
                self.put(
                    ledger_rules.unrecorded_gaps(self.some(self.head, end), self.head, recent,
                    stored=self.stored,
                               outage=outage)
                )  # fmt: skip
                self.put(
                    ledger_rules.missed(self.some(recent, end), recent, end, stored=self.stored,
                                reason="tunnel_down", detail="")
                )  # fmt: skip
            return
        coverage = self.fetch(start, end)
        initial = None
        if self.head is None:
            if self.oldest is None:
                return
            initial = self.first = self.watermark = max(
                self.oldest, floor_minute(self.now - FIRST_REACH)
            )
        begin = self.head if self.head is not None else self.first
        self.put(
            ledger_rules.unrecorded_gaps(
                self.some(begin, start), begin, start, stored=self.stored, outage=outage
            )
        )
        self.put(
            ledger_rules.answered(self.some(start, end), coverage, first=initial, head=self.head,
                          stored=self.stored,
                          now=self.now, live=True)
        )  # fmt: skip
        self.head = max(self.head or 0, end)
        self.settle()

    def backfill(self, *, requests: int, good: bool) -> None:
        open_gaps = [w for w in self.windows.values() if w.state == "gap"]
        for request in plan(open_gaps, self.now, SourceLimits())[:requests]:
            if not good:
                self.put(
                    [
                        ledger_rules.refused(w, self.now, reason="bad_response", detail="")
                        for w in request.windows
                    ]
                )
                continue
            start, end = request.start, request.end
            self.put(
                ledger_rules.answered(self.some(start, end), self.fetch(start, end), first=None,
                head=None,
                              stored=self.stored, now=self.now, live=False)
            )  # fmt: skip
            self.settle()

    def check(self) -> None:
        if self.head is None:
            assert not self.windows
            return
        seen: dict[int, Window] = {}
        for window in self.windows.values():
            assert window.start < window.end
            assert floor_bucket(window.end - 1) == floor_bucket(window.start)
            assert window.expected == (window.end - window.start) // MINUTE
            for minute in range(window.start, window.end, MINUTE):
                assert minute not in seen, "a minute in two lines"
                seen[minute] = window
            held = self.stored & set(range(window.start, window.end, MINUTE))
            assert window.got == len(held), "a line counts what is not stored"
            assert (window.state == "done") == (window.got == window.expected) or (
                window.state == "gap"
            )
            assert window.state == "done" or window.reason
            blind = self.failed & set(range(window.start, window.end, MINUTE))
            assert not blind & self.stored, "a minute without a value is called stored"
            if window.state == "lost" and window.expected - window.got == len(blind):
                assert window.reason == "collector_failed"
            if window.reason == "agent_stopped" and window.state == "lost":
                assert window.expected - window.got > len(blind), "the agent ran all the time"
        assert self.first is not None
        assert self.watermark is not None
        for minute in range(self.first, self.head, MINUTE):
            assert minute in seen, "a minute in no line"
            if minute < self.watermark and seen[minute].state != "gap":
                had = minute in self.stored
                assert had or seen[minute].state == "lost"
        assert self.first <= self.watermark
        assert self.first <= min(self.windows)


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["pull", "fail", "idle", "fill", "bad fill"]),
        st.integers(1, 45),  # minutes that pass first
        st.sampled_from([0.0, 0.5, 1.0, 1.0]),  # share of them in which the agent records
    ),
    max_size=40,
)


@settings(max_examples=examples(150), deadline=None)
@given(events=EVENTS, offset=st.integers(0, 19), rng=st.randoms(use_true_random=False))
def test_every_minute_is_accounted_for_once_and_none_is_asked_for_for_ever(events, offset, rng):
    stream = Stream(now=at(offset))
    for what, pause, share in events:
        for _ in range(pause):
            if rng.random() < share:
                stream.alive.add(stream.now)
            elif rng.random() < 0.5:
                stream.failed.add(stream.now)
            stream.now += MINUTE
        if rng.random() < 0.05:
            stream.forgets_before = stream.now - rng.randint(1, 300) * MINUTE
        if what in ("pull", "fail"):
            stream.pull(ok=what == "pull")
        elif what in ("fill", "bad fill"):
            stream.backfill(requests=2, good=what == "fill")
        stream.check()
    # Once all is well again, the next pull and one long run close every gap.
    stream.now += MINUTE
    stream.pull(ok=True)
    stream.backfill(requests=10_000, good=True)
    stream.check()
    assert not [w for w in stream.windows.values() if w.state == "gap"]
    assert stream.watermark == stream.head
    if stream.first is not None:
        had = {m for m in stream.alive if stream.first <= m < stream.head}
        lost = [w for w in stream.windows.values() if w.state == "lost"]
        assert len(had - stream.stored) <= sum(w.expected - w.got for w in lost)


def test_our_own_hub_that_cannot_be_reached_is_not_the_tunnel():
    outage = ledger_rules.Outage(1000.0, "gateway_down", [(0.0, None)])
    assert ledger_rules.why_missing(600, 900, outage)[0] == "centre_down"
