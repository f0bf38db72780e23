"""What pages and the API read, by value."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from metrics import query
from metrics.models import CustomerRetention, RetentionClass
from metrics.pulling.ledger_rules import buckets
from metrics.query import MetricsUnavailableError, SeriesKey
from metrics.query.answers import Gap, Segment
from metrics.query.coverage_strip import causes
from metrics.series.rows import Cell
from metrics.stores import close_stores, get_store
from opscenter.core.errors import InvalidInputError
from tests.metrics.query.stored import DAY, NOW, minutes, write
from tests.metrics.stores.contract import CLUSTER, NODE, POD, T0, coarse, row, window
from tests.metrics.stores.sqlite.damage import damage

pytestmark = pytest.mark.django_db


def test_a_short_range_is_answered_from_minutes(cluster):
    write(
        cluster,
        [row(POD, T0, cpu_mc=Cell(4, 10, 1, 5)), row(POD, T0 + 120, cpu_mc=7)],
        head=NOW,
    )
    answer = query.range_query(cluster, POD, "cpu_mc", T0, T0 + 3600, now=NOW)
    assert (answer.t, answer.mean, answer.min, answer.max) == (
        [T0, T0 + 120],
        [3, 7],
        [1, 7],
        [5, 7],
    )
    assert (answer.tier, answer.step, answer.unit) == ("1m", 60, "millicores")
    assert answer.coverage == [1, 1]
    assert (answer.start, answer.end, answer.gaps, answer.as_of) == (T0, T0 + 3600, (), NOW)


def test_a_wide_range_is_answered_from_wide_buckets_with_true_means(cluster):
    write(cluster, [row(POD, T0 + 60 * m, cpu_mc=m) for m in range(0, 60, 2)], head=NOW)
    answer = query.range_query(cluster, POD, "cpu_mc", T0, T0 + 3600, 12, now=NOW)
    assert (answer.tier, answer.step) == ("10m", 600)
    assert answer.mean == [4, 14, 24, 34, 44, 54]
    assert answer.coverage == [0.5] * 5 + [5 / 9]  # the pod's last minute was the 59th
    answer = query.range_query(cluster, POD, "cpu_mc", T0 - 30 * DAY, T0 + 3600, 100, now=NOW)
    assert (answer.tier, answer.step) == ("1h", 8 * 3600)
    assert answer.t == [T0 - T0 % (8 * 3600)]
    assert (answer.mean, answer.min, answer.max) == ([29], [0], [58])


def test_the_open_bucket_counts_only_what_can_be_there(cluster):
    write(cluster, minutes(NODE, T0, 65, cpu_mc=1), head=T0 + 3900)
    answer = query.range_query(cluster, NODE, "cpu_mc", T0, T0 + 7200, 2, now=T0 + 3990)
    assert (answer.tier, answer.coverage, answer.gaps) == ("1h", [1, 1], ())


def test_a_pod_born_within_a_bucket_is_not_blamed_for_the_time_before(cluster):
    write(cluster, minutes(POD, T0 + 1800, 30, cpu_mc=1), head=NOW)
    answer = query.range_query(cluster, POD, "cpu_mc", T0, T0 + 3600, 2, now=NOW)
    assert answer.coverage == [1]


def test_retention_of_the_customer_decides_which_tier_still_holds_a_range(cluster):
    start = NOW - 20 * DAY
    assert query.range_query(cluster, POD, "cpu_mc", start, start + 3600, now=NOW).tier == "10m"
    long = RetentionClass(name="Bank")
    long.limits["pod"]["1m"] = 30
    long.save()
    CustomerRetention.objects.create(customer=cluster.customer, retention_class=long)
    assert query.range_query(cluster, POD, "cpu_mc", start, start + 3600, now=NOW).tier == "1m"


def test_what_was_filled_in_wider_values_leaves_no_hole_in_a_narrow_range(cluster):
    """The source had 5-minute means left of the second hour, and hours of the third."""
    tens = [coarse(NODE, "10m", T0 + 3600 + 600 * i, cpu_mc=Cell(10, 50, None, None))
            for i in range(6)]  # fmt: skip
    hour = coarse(NODE, "1h", T0 + 7200, cpu_mc=Cell(60, 420, None, None))
    filled = {"filled_at": T0 + 2 * DAY, "reason": "tunnel_down"}
    write(
        cluster,
        minutes(NODE, T0, 60, cpu_mc=1),
        coarse=[*tens, hour],
        windows=[
            window(T0, T0 + 3600),
            window(T0 + 3600, T0 + 7200, resolution=300, **filled),
            window(T0 + 7200, T0 + 10_800, resolution=3600, **filled),
        ],
        head=T0 + 10_800,
    )

    def asked(start, end):
        answer = query.range_query(cluster, NODE, "cpu_mc", start, end, now=T0 + 2 * DAY)
        return answer.tier, answer.mean

    assert asked(T0, T0 + 3600) == ("1m", [1] * 60)
    assert asked(T0 + 1800, T0 + 5400) == ("10m", [1] * 3 + [5] * 3)
    assert asked(T0 + 7200, T0 + 7260) == ("1h", [7])
    assert asked(T0, T0 + 10_800) == ("1h", [1, 5, 7])
    heat = query.heat(cluster, "node", "cpu_mc", T0 + 3600, T0 + 7200, 60, now=T0 + 2 * DAY)
    assert (heat.tier, heat.rows[0].mean) == ("10m", (5,) * 6)


def test_wider_values_count_where_only_a_part_was_left_and_not_where_nothing_was(cluster):
    """Of the second ten minutes the source had one 5-minute mean, of the third nothing."""
    tens = [coarse(NODE, "10m", T0 + 600, cpu_mc=Cell(5, 25, None, None))]
    lost = {"state": "lost", "reason": "agent_stopped", "resolution": 300}
    windows = [window(T0, T0 + 600), window(T0 + 600, T0 + 1200, got=5, **lost),
             window(T0 + 1200, T0 + 1800, **lost)]  # fmt: skip
    write(cluster, minutes(NODE, T0, 10, cpu_mc=1), coarse=tens, windows=windows, head=T0 + 1800)

    def asked(start, end):
        answer = query.range_query(cluster, NODE, "cpu_mc", start, end, now=T0 + 2 * DAY)
        return answer.tier, answer.mean

    assert asked(T0, T0 + 1200) == ("10m", [1, 5])
    assert asked(T0 + 1200, T0 + 1800) == ("1m", [])


def test_gaps_are_clipped_joined_and_named(cluster):
    write(
        cluster,
        minutes(NODE, T0, 10, cpu_mc=1),
        windows=[
            window(T0, T0 + 600),
            window(T0 + 600, T0 + 1200, "gap"),
            window(T0 + 1200, T0 + 1800, "gap", detail="no session"),
            window(T0 + 1800, T0 + 2400, "lost", reason="agent_stopped"),
        ],
        head=T0 + 600,
    )
    answer = query.range_query(cluster, NODE, "cpu_mc", T0, T0 + 3600, now=T0 + 3000)
    assert answer.gaps == (
        Gap(T0 + 600, T0 + 1800, "gap", "tunnel_down",
            "20 of 20 minutes are missing: no session", 0, 20),
        Gap(T0 + 1800, T0 + 2400, "lost", "agent_stopped", "10 of 10 minutes are missing", 0, 10),
        Gap(T0 + 2400, T0 + 3000, "gap", "pending", "10 of 10 minutes are missing", 0, 10),
    )  # fmt: skip
    answer = query.range_query(cluster, NODE, "cpu_mc", T0 + 900, T0 + 960, now=T0 + 3000)
    [gap] = answer.gaps
    assert gap == Gap(
        T0 + 900, T0 + 960, "gap", "tunnel_down", "1 of 1 minute is missing", 0, 1
    )  # fmt: skip


def test_a_lost_day_is_told_as_a_day(cluster):
    """145 windows of one reason, of which the first lacks one minute and the last two."""
    detail = "nothing was recorded in 2 of 10 minutes"  # as an older version worded it
    lost = [
        window(T0 + 600 * at, T0 + 600 * (at + 1), "lost", reason="agent_stopped",
               got={0: 9, 144: 8}.get(at, 0), detail=detail)
        for at in range(145)
    ]  # fmt: skip
    write(cluster, windows=lost, head=T0 + 600 * 145)
    answer = query.range_query(
        cluster, CLUSTER, "nodes_total", T0, T0 + DAY + 600, now=T0 + 2 * DAY
    )
    [gap, _pending] = answer.gaps if len(answer.gaps) == 2 else (*answer.gaps, None)
    assert (gap.got, gap.expected) == (17, 1450)
    assert gap.detail == "1,433 of 1,450 minutes are missing: nothing was recorded"


def test_joined_windows_name_each_cause_once():
    assert causes(["a", "b; also: a", "", "2 of 10 minutes: c", "d"]) == "a; also: b; also: c"


class Story:
    """A cluster's minutes, and the ledger that is true of them."""

    def __init__(self, seed: int) -> None:
        rng = Random(seed)
        self.first = T0 + 60 * rng.randrange(30)
        self.head = self.first + 60 * rng.randrange(60, 400)
        self.now = self.head + rng.randrange(1500)
        self.stored: set[int] = set()
        self.windows = []
        for start, end in buckets(self.first, self.head):
            share = rng.choice([0, 0.5, 1, 1])
            got = {at for at in range(start, end, 60) if rng.random() < share}
            self.stored |= got
            state = "done" if len(got) == (end - start) // 60 else rng.choice(["gap", "lost"])
            reason = "" if state == "done" else rng.choice(["tunnel_down", "agent_stopped"])
            self.windows.append(window(start, end, state, reason=reason, got=len(got)))
        self.range = sorted(60 * rng.randrange(-40, 500) + T0 for _ in range(2))
        self.points = rng.choice([5, 30, 720])


@pytest.mark.parametrize("seed", range(25))
def test_what_gaps_and_samples_tell_adds_up_to_what_is_due(cluster, seed):
    story = Story(seed)
    rows = [row(NODE, at, cpu_mc=1) for at in sorted(story.stored)]
    write(cluster, rows, windows=story.windows, head=story.head)
    start, end = story.range[0], max(story.range[1], story.range[0] + 60)
    found = query.range_query(
        cluster, CLUSTER, "nodes_total", start, end, story.points, now=story.now
    )
    told = sum(found.samples) + sum(gap.expected - gap.got for gap in found.gaps)
    strip = query.coverage(cluster, found.start, found.end, now=story.now)
    assert told == found.due == sum(segment.expected for segment in strip)
    assert sum(found.samples) == sum(segment.got for segment in strip)
    assert found.due == query.minutes_due(cluster, CLUSTER, found.start, found.end, now=story.now)
    until = story.head if story.now // 60 * 60 - story.head <= 300 else story.now // 60 * 60
    assert found.due == max(0, min(found.end, until) - max(found.start, story.first)) // 60


def test_a_range_within_a_minute_counts_that_minute_in_strips_and_charts_alike(cluster):
    write(cluster, minutes(NODE, T0, 10, cpu_mc=1), windows=[window(T0, T0 + 600)], head=T0 + 600)
    start, now = T0 + 90, T0 + 630
    answer = query.range_query(cluster, CLUSTER, "nodes_total", start, now, now=now)
    first, *_ = query.coverage(cluster, start, now, now=now)
    assert (first.start, first.got, first.expected) == (start, 9, 9)
    assert (sum(answer.samples), answer.due) == (9, 9)


def test_a_node_is_due_in_the_gap_before_its_first_minute_and_not_before_it_was_there(cluster):
    ledger = [
        window(T0, T0 + 600),
        window(T0 + 600, T0 + 1200, "gap", got=4),
        window(T0 + 1200, T0 + 1800),
    ]
    late = SeriesKey("node", "", "late")
    rows = [*minutes(NODE, T0, 30, cpu_mc=1), *minutes(late, T0 + 1200, 10, cpu_mc=1)]
    write(cluster, rows, windows=ledger, head=T0 + 1800)

    def due(key):
        return query.minutes_due(cluster, key, T0 - 3600, T0 + 1800, now=T0 + 1800)

    assert (due(NODE), due(late), due(SeriesKey("node", "", "never"))) == (30, 20, 0)


@pytest.mark.parametrize(
    ("key", "field", "start", "end", "says"),
    [
        (POD, "load1_m", T0, T0 + 60, "field"),
        (POD, "cpu_mc", T0, T0, "end"),
        (POD, "cpu_mc", -60, T0, "start"),
        (POD, "cpu_mc", 0, T0, "start"),
        (POD, "cpu_mc", T0, 2**70, "start"),
        (SeriesKey("disk", "", ""), "cpu_mc", T0, T0 + 60, "field"),
    ],
)
def test_a_range_that_cannot_be_answered_is_refused_with_the_input_named(
    cluster, key, field, start, end, says
):
    with pytest.raises(InvalidInputError, match=f"^{says}: "):
        query.range_query(cluster, key, field, start, end, now=NOW)


def test_a_cluster_without_data_answers_empty(cluster):
    answer = query.range_query(cluster, CLUSTER, "cpu_mc", T0, T0 + 60, now=NOW)
    assert (answer.t, answer.gaps, answer.as_of) == ([], (), None)
    assert query.nodes(cluster, NOW).as_of is None
    assert query.pods(cluster, NOW).items == ()
    assert query.cluster_now(cluster) is None
    assert query.node(cluster, "n1") is None
    assert query.heat(cluster, "node", "cpu_mc", T0, NOW, 12, now=NOW).rows == ()
    assert query.coverage(cluster, T0, NOW, now=NOW) == (
        Segment(T0, NOW, "none", "", "", 0, 0, filled=False),
    )


@pytest.mark.sqlite_only(reason="breaks a chunk of SQLite's file")
def test_a_range_says_what_is_damaged_in_the_store(cluster, settings):
    late = SeriesKey("pod", "default", "born-late")
    rows = [*minutes(POD, T0, 130, cpu_mc=5), *minutes(late, T0 + 1200, 10, cpu_mc=5)]
    write(cluster, [*rows, *minutes(NODE, T0, 130, cpu_mc=5)], head=T0 + 7800,
          windows=[window(T0 + 600, T0 + 1200, "lost", reason="agent_stopped", got=9)])  # fmt: skip
    get_store().maintain(T0 + 40 * DAY)

    def gaps(key):
        answer = query.range_query(cluster, key, "cpu_mc", T0, T0 + 7200, now=T0 + 7800)
        return [(g.start - T0, g.end - T0, g.state, g.reason) for g in answer.gaps]

    lost = (600, 1200, "lost", "agent_stopped")
    assert gaps(POD) == gaps(late) == gaps(NODE) == [lost]
    damage(settings.METRICS_SQLITE_PATH)
    found = gaps(POD)
    assert found[:2] == [(0, 600, "lost", "store_damaged"), lost]
    assert found[2][0::2] == (1200, "lost")
    assert 1200 < found[2][1] <= 4800  # the end of the hour of the clock
    assert gaps(late) == [lost, (1200, 1800, "lost", "store_damaged")]
    assert gaps(NODE) == [lost]
    wide = query.range_query(cluster, POD, "cpu_mc", T0, T0 + 7200, 20, now=T0 + 7800)
    assert (wide.tier, [g.reason for g in wide.gaps]) == ("10m", ["agent_stopped"])


@pytest.mark.sqlite_only(reason="breaks SQLite's file; test_influxdb_outage.py stops InfluxDB")
def test_a_broken_store_is_told_without_naming_files(cluster, settings, caplog):
    settings.METRICS_SQLITE_PATH.write_bytes(b"no database at all" * 100)
    with pytest.raises(MetricsUnavailableError) as caught:
        query.nodes(cluster, NOW)
    assert str(settings.METRICS_SQLITE_PATH) not in str(caught.value)
    assert str(settings.METRICS_SQLITE_PATH) in caplog.text
    close_stores()


def test_a_range_says_how_many_minutes_it_has_and_could_have(cluster):
    write(cluster, minutes(NODE, T0, 65, cpu_mc=1)[::2], head=T0 + 3900)
    answer = query.range_query(cluster, NODE, "cpu_mc", T0, T0 + 7200, 2, now=T0 + 3990)
    assert (answer.samples, answer.expected, answer.coverage) == ([30, 3], [60, 5], [0.5, 0.6])


def test_a_range_counts_the_minutes_that_have_no_bucket_as_well(cluster):
    ledger = [window(T0 + 600 * at, T0 + 600 * (at + 1), "lost", got=0) for at in range(3, 12)]
    ledger = [window(T0, T0 + 1800), *ledger[:-1], replace(ledger[-1], got=1)]
    write(cluster, minutes(NODE, T0, 120, cpu_mc=1)[:30], windows=ledger, head=NOW)
    write(cluster, minutes(POD, T0 + 600, 20, cpu_mc=1))  # gone before the head
    write(cluster, minutes(NODE, T0 + 7140, 1, cpu_mc=1))

    def covered(key, **options):
        answer = query.range_query(cluster, key, "cpu_mc", T0, NOW, now=NOW, **options)
        return sum(answer.samples), answer.due

    assert covered(NODE) == covered(NODE, points=2) == (31, 120)
    assert covered(POD) == (20, 20)
    assert covered(SeriesKey("pod", "no", "such")) == (0, 0)


def test_a_range_is_compared_with_the_week_before_in_whatever_is_kept(cluster):
    week = 7 * DAY
    now = T0 + week + 7200
    write(cluster, minutes(NODE, T0, 30, cpu_mc=100), head=now)
    write(cluster, minutes(NODE, T0 + week, 60, cpu_mc=150), head=now)
    answer = query.range_query(cluster, NODE, "cpu_mc", T0 + week, T0 + week + 3600, now=now)
    found = query.compare(cluster, NODE, "cpu_mc", answer, week, now=now)
    assert (answer.tier, found.former.tier, found.offset) == ("1m", "10m", week)
    assert (found.former.start, found.former.t) == (T0, [T0, T0 + 600, T0 + 1200])
    assert (found.change.ratio, found.change.share) == (0.5, 0.5)
