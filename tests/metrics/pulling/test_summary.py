"""What a pull says about a cluster, where measurements are missing or odd."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from clusters.conditions import NOTES, Condition
from clusters.node_inventory import SeenNode
from clusters.status_numbers import NUMBERS
from clusters.status_summary import PullFacts
from metrics.pulling.summary import SUMS, Context, cpu_history, pull_facts
from metrics.series.catalog import CATALOG, FIELD_NAMES
from metrics.series.rows import Cell, Columns, MinuteRow, SeriesKey
from metrics.series.source_answer import CollectorState, SourceAnswer
from metrics.series.windows import MINUTE, utc_datetime

T0 = 1_800_000_000
GIB = 1 << 30


def row(ts: int, kind: str, ns: str, name: str, **values: int) -> MinuteRow:
    cells = tuple(
        Cell(1, values[field], values[field], values[field]) if field in values else None
        for field in FIELD_NAMES[kind]
    )
    return MinuteRow(ts, SeriesKey(kind, ns, name), cells)


def answer(*rows: MinuteRow) -> SourceAnswer:
    return SourceAnswer(rows, (), T0, T0 + 600, T0, T0 + 600, T0 + 600.0, "1", "host", frozenset())


def test_an_answer_without_nodes_says_only_who_answered():
    facts = pull_facts(answer(row(T0, "pod", "a", "b", cpu_mc=1)), [], Context(clock_skew_ms=5))
    assert (facts.data_as_of, facts.pods, facts.agent_version, facts.clock_skew_ms) == (
        None, None, "1", 5,
    )  # fmt: skip


def test_what_nobody_measured_is_not_known_and_never_zero():
    facts = pull_facts(answer(row(T0, "node", "", "n1", uptime_s=1)), [], Context())
    assert (facts.nodes, facts.pods) == ([SeenNode("n1", None)], None)
    assert facts.cpu_mc is facts.mem_cap is facts.fs_worst_ratio is facts.inodes_worst_ratio is None


def test_only_the_newest_minute_counts():
    facts = pull_facts(
        answer(
            row(T0, "node", "", "gone", cpu_mc=900),
            row(T0 + 60, "node", "", "n1", cpu_mc=7, ready=0),
        ),
        [], Context(),
    )  # fmt: skip
    assert (facts.cpu_mc, facts.nodes) == (7, [SeenNode("n1", ready=False)])


def test_what_is_summed_is_a_field_of_nodes_that_adds_up_in_the_same_unit():
    fields = {field.name: field for field in CATALOG["node"]}
    for name in SUMS:
        assert (fields[name].unit, fields[name].across_nodes) == (NUMBERS[name].unit, "sum")
    nodes = [row(T0, "node", "", node, **dict.fromkeys(SUMS, 3)) for node in ("n1", "n2")]
    facts = pull_facts(answer(*nodes), [], Context())
    assert {name: getattr(facts, name) for name in SUMS} == dict.fromkeys(SUMS, 6)


def test_a_filesystem_without_capacity_is_not_judged():
    inodes = {"inodes_total": 10, "inodes_free": 9}
    facts = pull_facts(
        answer(
            row(T0, "node", "", "n1", ready=1),
            row(T0, "filesystem", "n1", "/proc", used=5, cap=0, inodes_total=0, inodes_free=0),
            row(T0, "filesystem", "n1", "/", used=50 * GIB, cap=100 * GIB, **inodes),
            row(T0, "filesystem", "n1", "/full", used=120 * GIB, cap=100 * GIB),
        ),
        [], Context(),
    )  # fmt: skip
    assert (facts.fs_worst_ratio, facts.fs_worst_name) == (1.0, "n1 /full")
    assert facts.inodes_worst_name == "n1 /"


def test_the_history_has_a_hole_where_a_minute_or_its_capacity_is_missing():
    def columns(*pairs: tuple[int, int]) -> Columns:
        ts, values = [t for t, _ in pairs], [v for _, v in pairs]
        return Columns(ts, [1] * len(ts), values, values, values)

    end = T0 + 3600
    used = columns((end - 180, 10), (end - 120, 20), (end - 60, 30))
    caps = columns((end - 180, 100), (end - 60, 0))
    assert cpu_history(used, caps, end) == [None] * 57 + [100, None, None]


def off(facts: PullFacts) -> list[tuple[str, str]]:
    return [(one.what, one.node) for one in facts.conditions if one.what not in NOTES]


def test_a_node_without_numbers_stays_one_while_its_agent_sees_nothing():
    rows = [
        row(T0, "node", "", "n1", ready=1, cpu_mc=5),
        row(T0, "node", "", "n2", ready=1),
    ]
    blind = CollectorState(False, "HTTP 503", T0 + 1.0)
    sees = CollectorState(True, "", T0 + 1.0, {"n2": "no answer"})
    before = pull_facts(replace(answer(*rows), collector=sees), [], Context())
    assert off(before) == [("no_numbers", "n2")]
    after = pull_facts(
        replace(answer(*rows), collector=blind), [], Context(recorded=before.conditions)
    )
    assert off(after) == off(before)


def test_a_ready_node_of_which_a_source_sends_nothing_else_has_no_numbers():
    rows = [
        row(T0, "node", "", "n1", ready=1, mem_ws=5),
        row(T0, "node", "", "n2", ready=1, pods=4),
        row(T0, "node", "", "n3", ready=0),
    ]
    assert off(pull_facts(answer(*rows), [], Context(source="prometheus"))) == [
        ("no_numbers", "n2")
    ]


def test_a_source_that_has_no_numbers_of_any_node_alarms_nobody():
    rows = [row(T0, "node", "", node, ready=1) for node in ("n1", "n2")]
    assert off(pull_facts(answer(*rows), [], Context(source="prometheus"))) == []


def test_all_nodes_without_numbers_are_no_better_than_one_where_numbers_are_expected():
    rows = [row(T0, "node", "", node, ready=1) for node in ("n1", "n2")]
    both = [("no_numbers", "n1"), ("no_numbers", "n2")]
    sees = replace(answer(*rows), collector=CollectorState(True, "", T0 + 1.0))
    assert off(pull_facts(sees, [], Context())) == both  # an agent measures each node it lists
    had = Context(source="prometheus", had_numbers=True)
    assert off(pull_facts(answer(*rows), [], had)) == both


def test_numbers_are_missed_for_a_day_where_a_source_had_them():
    rows = [row(T0, "node", "", node, ready=1) for node in ("n1", "n2")]

    def after(hours: float) -> list[tuple[str, str]]:
        since = utc_datetime(T0 + MINUTE) - timedelta(hours=hours)
        recorded = [Condition(what="no_numbers", node="n1", since=since)]
        context = Context(source="prometheus", recorded=recorded)
        return off(pull_facts(answer(*rows), [], context))

    assert after(23.9) == [("no_numbers", "n1"), ("no_numbers", "n2")]
    assert after(24.1) == []


def test_memory_that_was_short_is_not_well_because_the_fullest_node_sends_none():
    small = row(T0, "node", "", "n1", ready=1, cpu_mc=5, mem_ws=2 * GIB, mem_cap=4 * GIB)
    large = row(T0, "node", "", "n2", ready=1, cpu_mc=5, mem_ws=63 * GIB, mem_cap=64 * GIB)
    silent = row(T0, "node", "", "n2", ready=1, cpu_mc=5, mem_cap=64 * GIB)
    before = pull_facts(answer(small, large), [], Context())
    assert [(one.what, one.gone_at) for one in before.conditions if one.what == "memory"] == [
        ("memory", None)
    ]
    after = pull_facts(answer(small, silent), [], Context(recorded=before.conditions))
    [gone] = [one for one in after.conditions if one.what == "memory"]
    assert gone.gone_at is not None
    removed = pull_facts(answer(small), [], Context(recorded=before.conditions))
    assert [one for one in removed.conditions if one.what == "memory"] == []
