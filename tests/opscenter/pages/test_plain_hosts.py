"""A plain machine: what it runs is called what its collector calls it, on every page."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest

from clusters.models import Cluster
from metrics.series.rows import MinuteRow, SeriesInfo, SeriesKey
from metrics.series.windows import Window
from metrics.stores import get_store
from metrics.stores.writer import Batch
from tests.factories import ClusterFactory, healthy
from tests.opscenter.pages.measured import cells, page

pytestmark = pytest.mark.django_db


@pytest.fixture
def machine(client, operator):
    client.force_login(operator)
    cluster = ClusterFactory(name="this-machine", **healthy(datetime.now(UTC), pods=2))
    Cluster.objects.update(kind="host")
    return cluster


def measure(cluster: Cluster, said: str = "process groups") -> None:
    """Store ten minutes of a machine with two process groups."""
    end = int(time.time()) // 60 * 60
    node = SeriesKey("node", "", "box")
    groups = [SeriesKey("pod", "host", name) for name in ("bash", "pip")]
    rows = []
    for ts in range(end - 600, end, 60):
        rows.append(
            MinuteRow(ts, node, cells("node", cpu_mc=900, cpu_cap_mc=4000, ready=1, pods=2))
        )
        rows += [MinuteRow(ts, key, cells("pod", cpu_mc=200, mem_ws=1 << 20)) for key in groups]
    infos = [SeriesInfo(node, "", {"pods_are": said} if said else {})]
    infos += [SeriesInfo(key, "box", {"processes": "3"}) for key in groups]
    windows = [Window(end - 600, end, "done", 10, 10, 1, "", "", None)]
    get_store().write(cluster.pk, "agent", Batch(rows, infos, windows, end, end))


@pytest.mark.parametrize("said", ["process groups", "systemd units"])
def test_processes_are_not_called_pods_on_any_page_of_a_machine(client, machine, said):
    measure(machine, said)
    title = said[:1].upper() + said[1:]
    paths = ("?tab=overview", "?tab=nodes", "?tab=pods", "?tab=pods&q=zzz", "?tab=pods&show=gone",
             "nodes/box/", "pods/host/bash/")  # fmt: skip
    for path in paths:
        text = client.get(f"/clusters/{machine.pk}/{path}").content.decode()
        if path.startswith("?"):
            assert f"{title} 2</a>" in text
        body = text[text.index('<main id="page"') : text.index('<footer class="foot">')]
        body = body.replace('<th class="num">Pods</th>', "")  # of the table of nodes
        assert ">Pods" not in body, path
        assert " pods" not in body.replace(" pods-", "").replace("tab=pods", ""), path


def test_no_column_is_there_that_is_always_empty_on_a_machine(client, machine):
    measure(machine)
    text = page(client, machine, "tab=pods")
    for column in ("Received", "Sent", "Restarts", "Namespace"):
        assert f">{column}<" not in text
    assert ">Processes<" in text
    assert "network received" not in text
    assert 'placeholder="name"' in text
    assert "2 process groups, as of" in " ".join(text.split())


def test_a_process_group_has_a_page_of_its_own(client, machine):
    measure(machine)
    text = client.get(f"/clusters/{machine.pk}/pods/host/bash/").content.decode()
    assert "<dt>processes</dt><dd>3</dd>" in text
    assert "restarts" not in text
    assert text.count("<figure") == 2


def test_pods_stay_pods_where_nothing_else_is_said(client, machine):
    measure(machine, said="")
    assert "Pods 2</a>" in page(client, machine, "tab=pods")
    Cluster.objects.update(kind="kubernetes")
    measure(machine)
    assert "Pods 2</a>" in page(client, machine, "tab=pods")
