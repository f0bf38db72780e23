"""Which nodes a cluster has, which are missing, and which were removed."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clusters.conditions import conditions_of
from clusters.models import AuditEvent, Cluster, ClusterNode, ClusterStatus
from clusters.node_inventory import (
    LATE_SECONDS,
    MAX_NODES,
    MISSING_SECONDS,
    SeenNode,
    count_nodes,
    dismiss_node,
    node_of,
    node_state,
    nodes_of,
    take_stock,
)
from clusters.status_summary import PullFacts, record_pull
from tests.factories import NOW, ClusterFactory

ASK = {"listed": False, "source": "prometheus", "silence": "reports"}


def ready(*names: str) -> list[SeenNode]:
    return [SeenNode(name, ready=True) for name in names]


@pytest.mark.django_db
class TestTakingStock:
    def test_a_machine_that_dies_is_missing_until_a_day_is_over(self):
        cluster = ClusterFactory()
        take_stock(cluster, ready("n1", "n2"), NOW, **ASK)
        late, missing, still, over = (
            take_stock(cluster, ready("n1"), NOW + timedelta(seconds=at), **ASK)
            for at in (60, LATE_SECONDS + 60, MISSING_SECONDS + 60, MISSING_SECONDS + 120)
        )
        assert (late.total, late.ready, late.unknown, late.not_ready) == (2, 1, 1, [])
        assert (missing.total, missing.ready, missing.not_ready) == (2, 1, ["n2"])
        assert (missing.conditions[0].what, missing.conditions[0].since) == ("missing", NOW)
        assert (still.not_ready, over.total) == (["n2"], 1)

    def test_a_machine_that_does_not_come_back_after_a_long_outage_of_all_is_missing(self):
        cluster = ClusterFactory()
        take_stock(cluster, ready("n1", "n2"), NOW, **ASK)
        back = NOW + timedelta(days=2)
        for at in (back, back + timedelta(hours=23)):
            counts = take_stock(cluster, ready("n1"), at, **ASK)
            assert (counts.total, counts.not_ready) == (2, ["n2"])
        assert take_stock(cluster, ready("n1"), back + timedelta(hours=25), **ASK).total == 1
        again = take_stock(cluster, ready("n1", "n2"), back + timedelta(hours=26), **ASK)
        assert again.total == again.ready == 2
        lost = take_stock(cluster, ready("n1"), back + timedelta(hours=27), **ASK)
        assert lost.not_ready == ["n2"]

    def test_a_node_that_only_another_source_knew_is_not_known_and_not_called_dead(self):
        cluster = ClusterFactory()
        take_stock(cluster, ready("vm"), NOW, **(ASK | {"source": "agent", "listed": True}))
        counts = take_stock(cluster, ready("n1"), NOW + timedelta(hours=1), **ASK)
        assert (counts.total, counts.ready, counts.unknown, counts.not_ready) == (2, 1, 1, [])
        [one] = counts.conditions
        assert (one.what, one.node, one.detail) == (
            "not_said", "vm", "only the source before knew it",
        )  # fmt: skip

    def test_a_node_that_a_wrong_clock_dated_ahead_is_not_known_since_no_future_time(self):
        cluster = ClusterFactory()
        take_stock(cluster, ready("n1", "n2"), NOW + timedelta(hours=1), **ASK)
        counts = take_stock(cluster, ready("n1"), NOW, **ASK)
        assert (counts.total, counts.ready, counts.unknown, counts.not_ready) == (2, 1, 1, [])
        [one] = counts.conditions
        assert (one.what, one.since) == ("not_said", None)
        assert one.detail.endswith("a clock was wrong")
        rows = {row.name: node_state(row, NOW) for row in nodes_of(cluster)}
        assert rows == {"n1": "present", "n2": "unknown"}

    def test_a_list_of_what_should_be_there_removes_a_node(self):
        cluster = ClusterFactory()
        listed = ASK | {"listed": True}
        take_stock(cluster, ready("n1", "n2"), NOW, **listed)
        later = NOW + timedelta(seconds=60)
        counts = take_stock(cluster, ready("n1"), later, **listed)
        assert (counts.total, counts.conditions) == (1, [])
        assert {row.name: row.removed_at for row in nodes_of(cluster)} == {"n1": None, "n2": later}
        back = take_stock(cluster, ready("n1", "n2"), NOW + timedelta(seconds=120), **listed)
        assert (back.total, nodes_of(cluster)[1].removed_at) == (2, None)

    def test_a_missing_node_that_is_dismissed_counts_no_more_until_it_is_seen_again(self, operator):
        cluster = ClusterFactory()
        take_stock(cluster, ready("n1", "n2"), NOW, **ASK)
        at = NOW + timedelta(hours=1)
        row = dismiss_node(cluster, "n2", user=operator, actor=operator, now=at)
        assert (row.dismissed_by, row.dismissed_at) == (operator, at)
        assert AuditEvent.objects.get().detail == {"node": "n2"}
        assert take_stock(cluster, ready("n1"), at, **ASK).total == 1
        take_stock(cluster, ready("n1", "n2"), at + timedelta(hours=1), **ASK)
        again = take_stock(cluster, ready("n1"), at + timedelta(hours=2), **ASK)
        assert again.not_ready == ["n2"]

    def test_a_node_that_once_said_whether_it_is_ready_must_go_on_saying_it(self):
        cluster = ClusterFactory()
        silent = [SeenNode("n1", ready=None)]
        assert take_stock(cluster, silent, NOW, **ASK).ready == 1
        take_stock(cluster, ready("n1"), NOW, **ASK)
        counts = take_stock(cluster, silent, NOW + timedelta(seconds=60), **ASK)
        assert (counts.ready, counts.unknown, counts.conditions[0].what) == (0, 1, "not_said")

    def test_names_without_end_take_no_room_from_those_that_are_there(self):
        cluster = ClusterFactory()
        take_stock(cluster, ready(*(f"a{n}" for n in range(MAX_NODES))), NOW, **ASK)
        later = NOW + timedelta(seconds=60)
        take_stock(cluster, ready(*(f"b{n}" for n in range(50))), later, **ASK)
        assert not ClusterNode.objects.filter(name__startswith="b").exists()
        long_after = NOW + timedelta(seconds=MISSING_SECONDS + 60)
        take_stock(cluster, ready(*(f"c{n}" for n in range(50))), long_after, **ASK)
        assert ClusterNode.objects.filter(name__startswith="c").count() == 50
        assert ClusterNode.objects.count() == MAX_NODES


def minute(number: int) -> datetime:
    return NOW + timedelta(minutes=number)


@pytest.mark.django_db
class TestRememberedStock:
    def test_nothing_is_read_or_written_while_the_same_nodes_are_seen(
        self, django_assert_num_queries
    ):
        cluster = ClusterFactory()
        counts = take_stock(cluster, ready("n1", "n2"), NOW, **ASK)
        with django_assert_num_queries(0):
            for at in (1, 2):
                nodes = [SeenNode("n1", ready=False), *ready("n2")]
                counts = take_stock(cluster, nodes, minute(at), **ASK, stock=counts.stock)
        assert (counts.total, counts.ready, counts.not_ready) == (2, 1, ["n1"])

    def test_a_node_is_seen_up_to_the_newest_minute_although_that_is_not_written(self):
        cluster = ClusterFactory()
        for at in range(3):
            nodes = {"nodes": ready("n1", "n2"), "silence": "reports", "source": "prometheus"}
            record_pull(cluster.pk, PullFacts(data_as_of=minute(at), **nodes), now=minute(at))
        cluster = type(cluster).objects.get(pk=cluster.pk)
        assert {row.last_seen_at for row in nodes_of(cluster)} == {minute(2)}
        row = node_of(cluster, "n1")
        assert row.last_seen_at == minute(2)
        assert node_state(row, minute(2)) == "present"

    def test_a_node_that_vanishes_is_missing_since_the_last_minute_that_had_it(self):
        cluster = ClusterFactory()
        for at, names in enumerate([("n1", "n2")] * 4 + [("n1",)] * 4):
            nodes = {"nodes": ready(*names), "silence": "reports", "source": "prometheus"}
            record_pull(cluster.pk, PullFacts(data_as_of=minute(at), **nodes), now=minute(at))
        cluster = type(cluster).objects.get(pk=cluster.pk)
        assert [row.last_seen_at for row in nodes_of(cluster)] == [minute(7), minute(3)]
        [one] = conditions_of(cluster.current.conditions)
        assert (one.what, one.since) == ("missing", minute(3))

    @pytest.mark.parametrize("listed", [True, False])
    @pytest.mark.parametrize("silence", ["ready", "reports", "unknown"])
    def test_counts_and_times_are_those_of_an_inventory_written_each_minute(
        self, listed, silence, operator
    ):
        rng = random.Random(f"{listed} {silence}")
        asked = {"listed": listed, "silence": silence}
        quick, plain = ClusterFactory(), ClusterFactory()
        stock, at, seen = None, NOW, ready("a", "b")
        for _ in range(120):
            at += timedelta(seconds=rng.choice([0, 60, 60, 60, 600, 90_000, -120]))
            if rng.random() < 0.4:
                names = rng.sample("abcd", rng.randint(1, 4))
                seen = [SeenNode(name, ready=rng.choice([True, False, None])) for name in names]
            source = rng.choice(["prometheus"] * 9 + ["influxdb1"])
            counts = take_stock(quick, seen, at, source=source, stock=stock, **asked)
            stock = counts.stock
            expected = take_stock(plain, seen, at, source=source, **asked)
            assert replace(counts, stock=None) == replace(expected, stock=None)
            quick.current = ClusterStatus(
                data_as_of=at, stock=None if stock is None else stock.as_json()
            )
            assert shown(quick, at) == shown(plain, at)
            for name in counts.not_ready if rng.random() < 0.3 else ():
                for cluster in (quick, plain):
                    dismiss_node(cluster, name, user=operator, actor=operator, now=at)


def shown(cluster: Cluster, as_of: datetime) -> list[tuple[str, datetime, datetime | None, str]]:
    return [
        (row.name, row.last_seen_at, row.removed_at, node_state(row, as_of))
        for row in nodes_of(cluster)
    ]


seen_nodes = st.lists(
    st.builds(SeenNode, st.sampled_from("abcdef"), ready=st.sampled_from([True, False, None])),
    unique_by=lambda node: node.name,
)
silences = st.sampled_from(["ready", "reports", "unknown"])


@given(seen_nodes, st.sets(st.sampled_from("abcdef")), silences, st.data())
def test_taking_evidence_away_never_raises_how_many_are_ready(seen, said, silence, data):
    if not seen:
        return
    at = data.draw(st.integers(0, len(seen) - 1))
    said |= {node.name for node in seen if node.ready is not None}
    before = count_nodes(seen, {}, said, NOW, silence)
    silent = [replace(n, ready=None) if i == at else n for i, n in enumerate(seen)]
    if silence != "ready" or seen[at].ready:
        assert count_nodes(silent, {}, said, NOW, silence).ready <= before.ready
    gone = [n for i, n in enumerate(seen) if i != at]
    absent = {seen[at].name: NOW - timedelta(seconds=60)}
    counts = count_nodes(gone, absent, said, NOW, silence)
    assert (counts.total, counts.ready <= before.ready) == (before.total, True)


@given(seen_nodes, silences)
def test_every_node_is_ready_or_has_a_condition(seen, silence):
    counts = count_nodes(seen, {}, frozenset(), NOW, silence)
    assert counts.ready + len(counts.conditions) == counts.total == len(seen)
    assert counts.unknown + len(counts.not_ready) == len(counts.conditions)
