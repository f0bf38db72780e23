"""The newest values of nodes, filesystems and pods, as lists show them."""

from __future__ import annotations

import pytest

from metrics import query
from metrics.query import SeriesKey
from metrics.series.rows import SeriesInfo
from opscenter.core.errors import InvalidInputError
from tests.metrics.query.stored import DAY, NOW, write
from tests.metrics.stores.contract import NODE, POD, T0, row

pytestmark = pytest.mark.django_db


def test_nodes_carry_ratios_readiness_and_whether_they_are_there(cluster):
    gone, old = SeriesKey("node", "", "n0"), SeriesKey("node", "", "n9")
    newest = T0 + 2 * DAY
    write(
        cluster,
        [
            row(old, T0, cpu_mc=1),
            row(gone, newest - 3600, cpu_mc=1),
            row(NODE, newest, cpu_mc=500, cpu_cap_mc=2000, mem_ws=3, ready=1),
        ],
        infos=[SeriesInfo(NODE, attrs={"role": "worker"})],
    )
    answer = query.nodes(cluster, NOW)
    assert (answer.as_of, answer.total) == (newest + 60, 2)
    away, here = answer.items
    assert (away.name, away.present, away.ready, away.cpu_ratio) == ("n0", False, None, None)
    assert (here.name, here.present, here.ready, here.cpu_ratio) == ("n1", True, True, 0.25)
    assert (here.memory_ratio, here.attrs, here.as_of) == (None, {"role": "worker"}, newest + 60)
    assert query.cluster_now(cluster).values["nodes_total"] == 1


def test_filesystems_come_fullest_first(cluster):
    def disk(node, mount, used):
        return row(
            SeriesKey("filesystem", node, mount), T0, used=used, cap=100, inodes_total=10,
            inodes_free=4,
        )  # fmt: skip

    write(
        cluster, [row(NODE, T0, cpu_mc=1), disk("n1", "/", 50), disk("n2", "/", 90),
                  disk("n1", "/data", 70)],
    )  # fmt: skip
    items = query.filesystems(cluster, NOW).items
    assert [(i.ns, i.name, i.used_ratio) for i in items] == [
        ("n2", "/", 0.9), ("n1", "/data", 0.7), ("n1", "/", 0.5)
    ]  # fmt: skip
    assert items[0].inodes_ratio == 0.6
    assert [i.name for i in query.filesystems(cluster, NOW, node="n1").items] == ["/data", "/"]


def test_pods_are_ordered_searched_limited_and_counted(cluster):
    def key(name, ns="default"):
        return SeriesKey("pod", ns, name)

    write(
        cluster,
        [
            row(NODE, T0 + 600, cpu_mc=1),
            row(key("gone"), T0, cpu_mc=9999),
            row(key("b"), T0 + 600, cpu_mc=5, mem_ws=1),
            row(key("a"), T0 + 600, cpu_mc=5),
            row(key("silent"), T0 + 600, mem_ws=7),
            row(key("Web", "shop"), T0 + 600, cpu_mc=80),
        ],
        infos=[SeriesInfo(key("b"), "n7")],
    )

    def names(**how):
        return [pod.name for pod in query.pods(cluster, NOW, **how).items]

    assert names() == ["Web", "a", "b", "silent"]
    assert names(order="mem_ws") == ["silent", "b", "a", "Web"]
    assert names(order="name") == ["a", "b", "silent", "Web"]
    assert names(search="SHOP/w") == ["Web"]
    assert names(search="n7") == ["b"]
    assert names(node="n7") == ["b"]
    answer = query.pods(cluster, NOW, limit=1)
    assert (answer.total, len(answer.items), answer.as_of) == (4, 1, T0 + 660)
    assert len(query.pods(cluster, NOW, limit=0).items) == 4
    with pytest.raises(InvalidInputError, match=r"^order: "):
        query.pods(cluster, NOW, order="1; DROP TABLE")


def test_gone_pods_are_apart_the_last_to_go_first(cluster):
    keys = [SeriesKey("pod", "default", name) for name in ("long-ago", "early", "late", "here")]
    times = [T0 - 2 * DAY, T0 + 60, T0 + 540, T0 + 600]
    rows = [row(key, ts, cpu_mc=1) for key, ts in zip(keys, times, strict=True)]
    write(cluster, [*rows, row(NODE, T0 + 600, cpu_mc=1)])
    assert [pod.name for pod in query.pods(cluster, NOW).items] == ["here"]
    gone = query.gone_pods(cluster)
    assert [(pod.name, pod.present) for pod in gone.items] == [("late", False), ("early", False)]
    assert [pod.name for pod in query.gone_pods(cluster, search="EAR").items] == ["early"]


def test_pods_since_a_moment_are_both_those_that_run_and_those_that_ended(cluster):
    times = {"long-ago": T0 - DAY, "late": T0 + 540, "here": T0 + 600}
    rows = [row(SeriesKey("pod", "default", name), ts, cpu_mc=1) for name, ts in times.items()]
    write(cluster, [*rows, row(NODE, T0 + 600, cpu_mc=1)])
    found = query.pods_since(cluster, T0 + 540)
    assert [(pod.name, pod.present) for pod in found] == [("here", True), ("late", False)]


def test_a_pod_is_still_known_after_its_end(cluster):
    write(cluster, [row(POD, T0, cpu_mc=1), row(NODE, T0 + 3600, cpu_mc=1)])
    found = query.pod(cluster, "default", "web-1")
    assert (found.first_seen, found.now.present, found.now.as_of) == (T0, False, T0 + 60)
    assert found.cluster_as_of == T0 + 3660
    assert query.pod(cluster, "default", "web-2") is None
    assert query.node(cluster, "n1").now.present


def test_a_search_looks_at_the_given_clusters_only(cluster, foreign_cluster):
    for each in (cluster, foreign_cluster):
        write(each, [row(POD, T0, cpu_mc=5), row(SeriesKey("pod", "x", "api"), T0, cpu_mc=9)])
    found = query.search_pods([cluster], "WEB", now=NOW)
    assert [(hit.cluster, hit.now.key) for hit in found.items] == [(cluster, POD)]
    both = query.search_pods([cluster, foreign_cluster], "", now=NOW, order="cpu_mc", limit=3)
    assert [hit.now.values["cpu_mc"] for hit in both.items] == [9, 9, 5]
    assert query.search_pods([cluster], "web", now=T0 + 8 * DAY).items == ()
    second = query.search_pods([cluster], "", now=NOW, order="cpu_mc", limit=1, skip=1, count_to=9)
    assert ([hit.now.key for hit in second.items], second.total) == ([POD], 2)
    with pytest.raises(InvalidInputError):
        query.search_pods([cluster], "", now=NOW, order="name")


def test_a_search_over_clusters_with_other_clocks_is_in_one_order(cluster, foreign_cluster):
    """The same moment has the name of an hour later there."""
    foreign_cluster.current.clock_skew_ms = 3_600_000
    foreign_cluster.current.save()
    write(cluster, [row(POD, T0, cpu_mc=5), row(SeriesKey("pod", "x", "old"), T0 - 3600, cpu_mc=1)])
    late = [row(POD, T0 + 3660, cpu_mc=7), row(SeriesKey("pod", "x", "gone"), T0 + 1800, cpu_mc=9)]
    write(foreign_cluster, late)
    both = [cluster, foreign_cluster]
    found = query.search_pods(both, "", now=T0 + 600, within_seconds=900, order="cpu_mc")
    assert [(hit.cluster, hit.now.as_of) for hit in found.items] == [
        (foreign_cluster, T0 + 120), (cluster, T0 + 60),
    ]  # fmt: skip
    newest = query.search_pods(both, "", now=T0 + 600, limit=2)
    assert [hit.now.as_of for hit in newest.items] == [T0 + 120, T0 + 60]
