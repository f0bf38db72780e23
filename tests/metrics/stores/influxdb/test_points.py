"""Names, lines, queries and buckets of the InfluxDB store: what needs no server."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from metrics.series.catalog import FIELD_NAMES, TIERS
from metrics.series.rows import Cell, SeriesKey
from metrics.stores.influxdb import series
from metrics.stores.influxdb.flux import LAST_SECOND, merged, of_cluster, of_series
from metrics.stores.influxdb.names import (
    FOREVER,
    NOTHING,
    bucket_name,
    columns,
    escaped,
    shard_seconds,
    tag,
    untag,
)
from metrics.stores.influxdb.rows import cells_of, line, line_head, values_of
from tests.metrics.stores.contract import POD, T0

CLUSTER = UUID(int=7)
DAY = 86_400
NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@given(name=NAMES)
@example("")
@example("%")
@example("%0A")
@example("\n0A")
@example("a\\")
@example("é\x85\x00🙂\u202e")
def test_a_name_survives_as_a_tag(name):
    value = tag(name)
    assert untag(value) == name
    assert value
    assert value.isprintable()
    assert "\\" not in value


@given(one=NAMES, other=NAMES)
def test_two_names_never_share_a_tag(one, other):
    assert (tag(one) == tag(other)) == (one == other)


@given(name=NAMES)
@example("\x1a0\x00")
def test_a_name_survives_in_the_index_without_nul(name):
    assert series.untext(series.text(name)) == name
    assert "\0" not in series.text(name)


def test_what_separates_in_line_protocol_is_escaped():
    assert escaped(tag("a b,c=d")) == r"a\ b\,c\=d"
    hostile = SeriesKey("pod", "x v=1\ncpu,cluster=OTHER v=6 17\n#", "p\\")
    head = line_head(str(CLUSTER), hostile)
    assert "\n" not in head
    assert head == (
        f"pod,cluster={CLUSTER},name=p%5C,"
        r"ns=x\ v\=1%0Acpu\,cluster\=OTHER\ v\=6\ 17%0A# "
    )


def test_a_line_holds_integers_and_only_what_changes():
    cells = [None] * len(FIELD_NAMES["pod"])
    cells[0] = Cell(1, 5, 3, 5)
    new = values_of("1m", 4, cells)
    head = line_head(str(CLUSTER), POD)
    assert line(head, POD, "1m", T0, new, None) == (
        f"pod,cluster={CLUSTER},name=web-1,ns=default n=4i,cpu_mc=5i,cpu_mc_l=3i {T0}".encode()
    )
    assert line(head, POD, "1m", T0, new, new) == b""
    cells[0] = None
    cells[1] = Cell(1, 7, 7, 7)
    fields = line(head, POD, "1m", T0, values_of("1m", 4, cells), new).split()[1]
    assert fields == f"cpu_mc={NOTHING}i,cpu_mc_l={NOTHING}i,mem_ws=7i".encode()


@given(data=st.data(), tier=st.sampled_from(list(TIERS)))
def test_cells_survive_as_values(data, tier):
    number = st.integers(-(2**57), 2**57)
    extremes = number if tier == "1m" else st.none() | number
    n = st.just(1) if tier == "1m" else st.integers(1, 60)
    cells = data.draw(
        st.tuples(*[st.none() | st.builds(Cell, n, number, extremes, extremes)] * 7), "cells"
    )
    assert cells_of(tier, values_of(tier, 3, cells)) == (3, cells)
    assert len(values_of(tier, 3, cells)) == len(columns("pod", tier))


def test_a_query_binds_every_value_that_comes_from_outside():
    nasty = SeriesKey("pod", '" or true or r.ns == "', "${now()}\\")
    query = of_series(CLUSTER, nasty, T0, T0 + 60).where("_field", "cpu_mc")
    assert query.flux == (
        "from(bucket: bucket) |> range(start: start, stop: stop) |> filter(fn: (r) =>"
        " (r._measurement == p2) and (r.cluster == p3) and (r.ns == p4) and (r.name == p5)"
        " and (r._field == p6))"
    )
    assert query.params == {
        "start": T0, "stop": T0 + 60, "p2": "pod", "p3": str(CLUSTER),
        "p4": '" or true or r.ns == "', "p5": "${now()}%5C", "p6": "cpu_mc",
    }  # fmt: skip


def test_times_that_flux_cannot_count_are_cut_off():
    query = of_cluster(CLUSTER, ["pod"], -5, 1 << 60)
    assert (query.params["start"], query.params["stop"]) == (0, LAST_SECOND)


def test_of_two_buckets_the_row_over_more_wins_else_that_of_the_first():
    first = {POD: {1: [3, 1], 2: [5, 1]}}
    second = {POD: {1: [4, 2], 2: [5, 2], 3: [1, 2]}}
    assert merged([first, second]) == {POD: {1: [4, 2], 2: [5, 1], 3: [1, 2]}}


@pytest.mark.parametrize(
    ("tier", "seconds", "name", "shard_days"),
    [
        ("1m", 7 * DAY, "ops_1m_7d", 1),
        ("10m", 90 * DAY, "ops_10m_90d", 1),
        ("1h", 730 * DAY, "ops_1h_730d", 7),
        ("1h", 3650 * DAY, "ops_1h_3650d", 7),
        ("1m", FOREVER, "ops_1m_forever", 7),
        ("1m", 5400, "ops_1m_5400s", 1),
    ],
)
def test_a_bucket_is_named_by_tier_and_retention(tier, seconds, name, shard_days):
    assert bucket_name("ops", tier, seconds) == name
    assert shard_seconds(seconds) == shard_days * DAY
