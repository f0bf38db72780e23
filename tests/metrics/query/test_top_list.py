"""Top lists over ranges: by value against the stored rows, for one cluster and the fleet."""

from __future__ import annotations

import pytest

from metrics import query
from metrics.models import CustomerRetention, RetentionClass
from metrics.query import STREAM
from metrics.query.top_list import choose_tier
from metrics.series.rows import Cell, CoarseRow, SeriesInfo, SeriesKey
from metrics.stores import get_store
from metrics.stores.writer import Batch
from opscenter.core.errors import InvalidInputError
from tests.metrics.stores.contract import NODE, T0, coarse, row, window

pytestmark = pytest.mark.django_db
DAY = 86_400
REACH = {"1m": 7 * DAY, "10m": 90 * DAY, "1h": 730 * DAY}
NOW = T0 + 7200


def pod(name, ns="web"):
    return SeriesKey("pod", ns, name)


def fill(cluster, values, minutes=120):
    """Store pods with a constant mean and a peak in their last minute."""
    rows = [row(NODE, T0 + 60 * m, cpu_mc=1) for m in range(minutes)]
    for name, (mean, peak, count) in values.items():
        for m in range(minutes - count, minutes):
            high = peak if m == minutes - 1 else mean
            rows.append(row(pod(name), T0 + 60 * m, cpu_mc=Cell(1, mean, mean, high)))
    infos = [SeriesInfo(pod(name), "n1") for name in values]
    get_store().write(cluster.pk, STREAM, Batch(rows, infos, head=T0 + 60 * minutes))


def test_the_fleet_is_one_list_ordered_by_mean_or_by_peak(cluster, foreign_cluster, store):
    fill(cluster, {"a": (10, 900, 120), "b": (30, 30, 120)})
    fill(foreign_cluster, {"c": (20, 20, 60), "b": (30, 31, 120)})
    both = [cluster, foreign_cluster]
    answer = query.top(both, "pod", "cpu_mc", T0, NOW, now=NOW)
    assert [(e.cluster.name, e.key.name, e.mean, e.max, e.minutes) for e in answer.entries] == [
        *sorted([("north-1", "b", 30, 30, 120), ("south-1", "b", 30, 31, 120)],
                key=lambda e: str((cluster if e[0] == "north-1" else foreign_cluster).pk)),
        ("south-1", "c", 20, 20, 60), ("north-1", "a", 10, 900, 120),
    ]  # fmt: skip
    assert (answer.tiers, answer.start, answer.end, answer.clusters) == (("10m",), T0, NOW, 2)
    assert (answer.unit, answer.as_of, answer.entries[0].node) == ("millicores", NOW, "n1")
    assert [e.coverage for e in answer.entries] == [1, 1, 1, 1]  # since its own first minute
    answer = query.top(both, "pod", "cpu_mc", T0, NOW, now=NOW, by="max", limit=2)
    assert [(e.key.name, e.value("max")) for e in answer.entries] == [("a", 900), ("b", 31)]
    for by in ("mean", "max"):
        every = query.top(both, "pod", "cpu_mc", T0, NOW, now=NOW, by=by).entries
        for search, names in (("WEB/C", "c"), ("C", "c"), ("web", "abc"), ("no", "")):
            answer = query.top(both, "pod", "cpu_mc", T0, NOW, now=NOW, by=by, search=search)
            assert answer.entries == tuple(e for e in every if e.key.name in set(names))
    answer = query.top([cluster], "pod", "cpu_mc", T0, NOW, now=NOW, limit=1)
    assert [e.cluster for e in answer.entries] == [cluster]
    assert query.top([], "pod", "cpu_mc", T0, NOW, now=NOW).entries == ()


def test_a_search_that_finds_many_is_answered_as_one_that_finds_few(
    cluster, foreign_cluster, store, monkeypatch
):
    fill(cluster, {"a": (10, 900, 120), "ab": (30, 30, 120)})
    fill(foreign_cluster, {"abc": (20, 20, 60)})
    both = [cluster, foreign_cluster]
    few = query.top(both, "pod", "cpu_mc", T0, NOW, now=NOW, search="ab")
    monkeypatch.setattr("metrics.query.top_list.FEW", 0)
    assert query.top(both, "pod", "cpu_mc", T0, NOW, now=NOW, search="ab") == few
    assert [e.key.name for e in few.entries] == ["ab", "abc"]


def test_a_narrow_range_is_read_from_minutes_and_counts_only_them(cluster, store):
    fill(cluster, {"a": (10, 900, 120)})
    (entry,) = query.top([cluster], "pod", "cpu_mc", T0, T0 + 900, now=NOW).entries
    assert (entry.mean, entry.max, entry.minutes, entry.expected) == (10, 10, 15, 15)


def test_clusters_of_other_retention_are_read_from_another_tier(cluster, foreign_cluster, store):
    long = RetentionClass(name="Bank")
    long.limits["pod"]["1m"] = 60
    long.save()
    CustomerRetention.objects.create(customer=cluster.customer, retention_class=long)
    fill(cluster, {"a": (10, 10, 120)})
    fill(foreign_cluster, {"b": (20, 20, 120)})
    later = NOW + 20 * DAY
    answer = query.top([cluster, foreign_cluster], "pod", "cpu_mc", T0, T0 + 1800, now=later)
    assert answer.tiers == ("1m", "10m")
    assert [(e.key.name, e.minutes) for e in answer.entries] == [("b", 30), ("a", 30)]


def test_what_has_no_known_peak_has_none_in_the_list(cluster, store):
    cells = tuple(Cell(60, 600, None, None) if i == 0 else None for i in range(7))
    get_store().write(
        cluster.pk, STREAM, Batch(coarse=[CoarseRow("1h", T0, pod("a"), cells)], head=NOW)
    )
    (entry,) = query.top([cluster], "pod", "cpu_mc", T0, T0 + DAY, now=T0 + DAY).entries
    assert (entry.mean, entry.max) == (10, None)
    assert query.top([cluster], "pod", "cpu_mc", T0, T0 + DAY, now=NOW, by="max").entries == ()


def test_what_was_filled_in_wider_values_is_in_the_list_of_a_narrow_range(cluster, store):
    hours = [coarse(pod("a"), "1h", T0 + 3600 * h, cpu_mc=Cell(60, 600, None, None))
             for h in range(2)]  # fmt: skip
    filled = window(T0, NOW, filled_at=NOW + DAY, reason="tunnel_down", resolution=3600)
    get_store().write(cluster.pk, STREAM, Batch(coarse=hours, windows=[filled], head=NOW))
    answer = query.top([cluster], "pod", "cpu_mc", T0 + 600, T0 + 1200, now=NOW + DAY)
    assert (answer.tiers, [entry.mean for entry in answer.entries]) == (("1h",), [10])


def test_what_cannot_be_answered_is_refused(cluster):
    with pytest.raises(InvalidInputError, match="field"):
        query.top([cluster], "pod", "load1_m", T0, NOW, now=NOW)
    with pytest.raises(InvalidInputError, match="end"):
        query.top([cluster], "pod", "cpu_mc", T0, T0, now=NOW)


def test_the_tier_is_the_widest_with_a_dozen_buckets():
    now = T0 + 400 * DAY

    def tier(seconds, ago=0):
        return choose_tier(now - ago - seconds, now - ago, now=now, reach=REACH)

    lengths = (60, 900, 3600, 7200, 12 * 3600, 30 * DAY)
    assert [tier(s) for s in lengths] == ["1m", "1m", "1m", "10m", "1h", "1h"]
    assert tier(900, ago=30 * DAY) == "10m"
    assert tier(900, ago=200 * DAY) == "1h"
    assert tier(900, ago=800 * DAY) == "1h"
