"""The first look at a server: product, reach, series, and why a field is missing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest
from aiohttp import web

from metrics.series.catalog import FIELD_NAMES
from metrics.sources.base import Probe, Resolution
from metrics.sources.prometheus.probe import duration_seconds, product_of
from metrics.sources.prometheus.source import PrometheusSource
from opscenter.core.errors import BadResponseError
from tests.metrics.sources.hostile import Answer, hostile_server
from tests.metrics.sources.prometheus.seeds import MINUTES, machines, modern
from tests.metrics.sources.prometheus.world import MINUTE, World
from tests.servers.client import DirectClient
from tests.servers.prometheus import Series, prometheus, version
from tests.servers.victoriametrics import victoriametrics

DAY = 86_400
Start = Callable[..., AbstractContextManager[int]]


def _recent(make: Callable[[int], World]) -> World:
    """Return an installation whose samples end with the running minute."""
    return make(int(time.time()) // MINUTE * MINUTE - (MINUTES - 1) * MINUTE)


async def probe(port: int) -> Probe:
    async with DirectClient(port) as client:
        return await PrometheusSource().probe(client, now=time.time())


def why(found: Probe) -> dict[tuple[str, str], str]:
    return {(f.kind, f.field): f.why for f in found.fields if not f.series}


def of_now(series: list[Series]) -> list[Series]:
    """Return series without samples from the future, which a server refuses."""
    now = time.time()
    return [(n, labels, [s for s in samples if s[0] <= now]) for n, labels, samples in series]


@pytest.fixture(scope="module")
def everything() -> Iterator[World]:
    return _recent(modern)


@pytest.mark.parametrize(
    ("start", "product", "named", "reach"),
    [
        (prometheus, "Prometheus", "{}.{}.".format(*version()), 400 * DAY),
        (victoriametrics, "VictoriaMetrics", "", 730 * DAY),
    ],
)
@pytest.mark.usefixtures("starts_servers")
async def test_a_full_installation_is_named_with_its_reach_and_all_its_fields(
    start: Start, product: str, named: str, reach: int, everything: World, tmp_path
):
    with start(tmp_path, series=of_now(everything.series())) as port:
        found = await probe(port)
    assert found.product == product
    assert found.version.startswith(named)  # Debian's VictoriaMetrics does not say
    assert found.resolutions == (Resolution(60, reach, "1m"),)
    assert found.oldest == everything.start
    assert found.newest is not None
    assert 0 <= time.time() - found.newest <= 180
    # The job's pod has ended.
    assert dict(found.series) == {"node": 2, "filesystem": 4, "pod": 3}
    assert why(found) == {}
    assert [(f.kind, f.field) for f in found.fields] == [
        (kind, name) for kind in ("node", "filesystem", "pod") for name in FIELD_NAMES[kind]
    ]
    assert any("prometheus_replica" in note for note in found.notes)
    assert any("1.16 and later" in note for note in found.notes)


@pytest.mark.usefixtures("starts_servers")
async def test_what_is_missing_is_said_with_who_would_bring_it(everything: World, tmp_path):
    there = [
        one for one in of_now(everything.series())
        if not one[0].startswith(("kube_", "etcd_")) and one[0] != "container_fs_usage_bytes"
    ]  # fmt: skip
    with prometheus(tmp_path, series=there) as port:
        found = await probe(port)
    missing = why(found)
    assert missing.keys() == {
        ("node", "pods"), ("node", "ready"), ("node", "etcd_fsync_us"),
        ("node", "etcd_leader_changes"), ("pod", "fs_used"), ("pod", "restarts"),
    }  # fmt: skip
    assert missing["node", "ready"] == (
        "kube-state-metrics is not scraped: no kube_node_status_condition"
    )
    assert missing["node", "etcd_fsync_us"].startswith("etcd is not scraped: no etcd_disk_wal")
    assert "no container_fs_usage_bytes" in missing["pod", "fs_used"]
    # Without kube-state-metrics, the nodes are those that the kubelets name.
    assert found.series["node"] == 2


@pytest.mark.usefixtures("starts_servers")
async def test_a_plain_machine_lacks_pods_and_nothing_else(tmp_path):
    world = _recent(machines)
    with prometheus(tmp_path, series=of_now(world.series())) as port:
        found = await probe(port)
    assert dict(found.series) == {"node": 2, "filesystem": 4, "pod": 0}
    assert {kind for kind, _ in why(found)} == {"node", "pod"}
    assert {name for kind, name in why(found) if kind == "node"} == {
        "pods", "etcd_fsync_us", "etcd_leader_changes",
    }  # fmt: skip


@pytest.mark.usefixtures("starts_servers")
async def test_a_metric_that_is_there_without_its_labels_is_told_apart(tmp_path):
    now = int(time.time())
    samples = [(float(t), 5.0) for t in range(now - 600, now, 30)]
    series: list[Series] = [
        ("up", {"job": "kubelet"}, samples),
        ("container_fs_usage_bytes", {"id": "/x", "device": "/dev/sda"}, samples),
    ]
    with prometheus(tmp_path, series=series) as port:
        missing = why(await probe(port))
    assert missing["pod", "fs_used"].startswith("container_fs_usage_bytes is there, but not with")


@pytest.mark.usefixtures("starts_servers")
async def test_an_empty_server_has_nothing_and_says_so(tmp_path):
    with prometheus(tmp_path) as port:
        found = await probe(port)
    assert (found.product, found.oldest, found.newest) == ("Prometheus", None, None)
    assert set(found.series.values()) == {0}
    assert all(field.why for field in found.fields)


@pytest.mark.usefixtures("starts_servers")
async def test_what_is_no_prometheus_is_an_error_of_its_own():
    async def not_found(_: web.Request) -> Answer:
        return 404, "text/plain", b"404 page not found"

    async with hostile_server(not_found) as port:
        with pytest.raises(BadResponseError) as refused:
            await probe(port)
    assert (refused.value.problem, refused.value.status) == ("not_found", 404)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("15d", 15 * DAY), ("1y2w", 379 * DAY), ("90m", 5400), ("12", 372 * DAY), ("0s", None),
        ("10GiB", None), ("", None), ("2y", 730 * DAY), ("1d12h", 129_600),
    ],
)  # fmt: skip
def test_a_retention_is_read_as_servers_write_it(text: str, seconds: int | None):
    assert duration_seconds(text) == seconds


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (
            'vm_app_version{version="victoria-metrics-20220608-tags-v1.79.5-0-g1", '
            'short_version="v1.79.5"} 1',
            ("VictoriaMetrics", "1.79.5"),
        ),
        (
            'vm_app_version{version="victoria-metrics-tags-v1.93.0"} 1',
            ("VictoriaMetrics", "1.93.0"),
        ),
        ('prometheus_build_info{branch="HEAD",version="2.7.2"} 1', ("Prometheus", "2.7.2")),
        ('go_info{version="go1.19.8"} 1', None),
        ("", None),
    ],
)
def test_product_and_version_are_read_from_a_servers_own_metrics(line: str, told: object):
    assert product_of(f"# HELP x\n{line}\n") == told


def test_texts_that_are_made_to_be_slow_to_read_are_not():
    assert duration_seconds("1" * 5000 + "!") is None
    assert duration_seconds("9" * 5000 + "s") is None
    assert product_of("prometheus_build_info{\n" * 200_000) is None
    assert product_of("vm_app_version{" + "version=" * 200_000) is None
