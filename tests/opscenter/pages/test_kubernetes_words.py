"""Nodes and pods of Kubernetes on pages: as kubectl words them, and by names for people."""

from __future__ import annotations

import html
import re
import time
from datetime import UTC, datetime, timedelta

import pytest

from metrics.series.rows import MinuteRow, SeriesInfo, SeriesKey
from metrics.stores import get_store
from metrics.stores.writer import Batch
from opscenter.pages import format as fmt
from opscenter.pages.kubernetes_words import Fact, facts, marks, status, status_state, workload
from tests.factories import ClusterFactory, healthy
from tests.opscenter.pages.measured import cells

CRASHING = {
    "status": "CrashLoopBackOff",
    "ready": "0/1",
    "phase": "Running",
    "reason": "CrashLoopBackOff",
    "owner": "Deployment/cart",
    "last_termination": "OOMKilled, exit code 137",
    "last_terminated_at": "2026-11-29T13:56:39Z",
}
ENDED = datetime(2026, 11, 29, 13, 56, 39, tzinfo=UTC)
PENDING = {
    "status": "Pending",
    "ready": "0/1",
    "phase": "Pending",
    "reason": "Unschedulable",
    "message": "0/1 nodes are available: 1 Insufficient cpu.",
}
RUNNING = {"status": "Running", "ready": "2/2", "phase": "Running", "owner": "DaemonSet/log"}


@pytest.mark.parametrize(
    ("attrs", "state"),
    [
        (RUNNING, ""),
        (RUNNING | {"ready": "1/2"}, "degraded"),
        (PENDING, "degraded"),
        ({"status": "Pending"}, "pending"),
        ({"status": "Init:0/2"}, "pending"),
        ({"status": "Terminating"}, "pending"),
        ({"status": "Completed", "ready": "0/1"}, ""),
        ({"status": "NotReady"}, "degraded"),
        ({"status": "Unknown"}, "unknown"),
        (CRASHING, "critical"),
        ({"status": "Init:CrashLoopBackOff"}, "critical"),
        ({"status": "Error"}, "critical"),
        ({}, ""),
    ],
)
def test_a_status_has_the_colour_of_what_it_says_and_never_that_of_all_well(attrs, state):
    assert status_state(attrs) == state


def test_a_source_that_says_less_is_shown_by_the_nearest_to_a_status():
    assert status({"phase": "Running", "reason": "CrashLoopBackOff"}) == "CrashLoopBackOff"
    assert status({"phase": "Pending"}) == "Pending"
    assert status({}) == ""


def test_the_workload_of_any_source_is_found():
    assert workload({"owner": "CronJob/minutely"}) == "CronJob/minutely"
    assert workload({"workload": "cart"}) == "cart"
    assert workload({}) == ""


def test_a_node_is_marked_by_what_is_wrong_with_it():
    assert marks({"conditions": "DiskPressure,PIDPressure", "cordoned": "1"}) == [
        "cordoned", "disk pressure", "PID pressure",
    ]  # fmt: skip
    assert marks({"cordoned": "", "roles": "control-plane"}) == []


def test_attributes_have_names_for_people():
    shown = facts({"last_terminated_at": "2026-11-29T13:56:39Z", "arch": "amd64", "new_one": "x",
                   "conditions": "MemoryPressure", "cordoned": "1", "roles": "etcd,worker",
                   "os": ""}, without=["image"])  # fmt: skip
    assert shown == [
        Fact("last terminated", "2026-11-29T13:56:39Z", ENDED),
        Fact("architecture", "amd64"),
        Fact("new one", "x"),
        Fact("pressure", "memory pressure"),
        Fact("cordoned", "yes"),
        Fact("roles", "etcd, worker"),
    ]  # fmt: skip
    assert facts({"last_terminated_at": "soon"}) == [Fact("last terminated", "soon")]


def test_an_idle_pod_uses_less_than_a_millicore_not_none():
    assert [fmt.cores(value) for value in (None, 0, 0.4, 1, 900)] == [
        fmt.UNKNOWN, "<1 m", "<1 m", "1 m", "900 m",
    ]  # fmt: skip


@pytest.fixture
def alpha(client, operator):
    client.force_login(operator)
    return ClusterFactory(name="alpha", **healthy(datetime.now(UTC)))


def store(cluster, pods, node=None, *, ready=1, minutes_ago=0):
    """Store the newest minute: node-1, and pods by name with their attributes."""
    end = int(time.time()) // 60 * 60 - 60 * minutes_ago
    values = {"cpu_mc": 900, "cpu_cap_mc": 4000} | ({} if ready is None else {"ready": ready})
    key = SeriesKey("node", "", "node-1")
    rows, infos = [MinuteRow(end - 60, key, cells("node", **values))], []
    infos.append(SeriesInfo(key, "", node or {}))
    for name, attrs in pods.items():
        key = SeriesKey("pod", "shop", name)
        rows.append(MinuteRow(end - 60, key, cells("pod", cpu_mc=0, restarts=8)))
        infos.append(SeriesInfo(key, "node-1", attrs))
    get_store().write(cluster.pk, "agent", Batch(rows, infos))


def shown(client, path):
    """Return the page's text without its tags."""
    response = client.get(path)
    assert response.status_code == 200
    text = re.sub(r"<[^>]+>", " ", response.content.decode())
    return re.sub(r"\s+", " ", html.unescape(text))


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/clusters/{}/?tab=pods", "/pods/", "/clusters/{}/nodes/node-1/"])
def test_every_list_of_pods_says_what_kubectl_says(client, alpha, path):
    store(alpha, {"cart-1": CRASHING, "too-big": PENDING, "log-1": RUNNING})
    text = shown(client, path.format(alpha.pk))
    for part in ("✖ CrashLoopBackOff", "last: OOMKilled, exit code 137", "Deployment/cart", "0/1",
                 "▲ Pending", "Running", "2/2", "<1 m"):  # fmt: skip
        assert part in text, part


@pytest.mark.django_db
def test_the_page_of_a_pod_says_why_it_does_not_run_and_what_belongs_to_it(client, alpha):
    store(alpha, {"cart-1": CRASHING, "cart-2": CRASHING, "too-big": PENDING})
    text = shown(client, f"/clusters/{alpha.pk}/pods/shop/too-big/")
    assert "Unschedulable. 0/1 nodes are available: 1 Insufficient cpu." in text
    text = shown(client, f"/clusters/{alpha.pk}/pods/shop/cart-1/")
    for part in ("status · 0/1 containers ready ✖ CrashLoopBackOff", "last terminated 2026-11-29",
                 "workload Deployment/cart", "Pods of Deployment/cart: 2 now"):  # fmt: skip
        assert part in text, part
    assert "last_termination" not in text


@pytest.mark.django_db
def test_services_of_a_plain_host_have_no_column_of_a_status(client, alpha):
    store(alpha, {"ssh.service": {}})
    assert "Status" not in shown(client, f"/clusters/{alpha.pk}/?tab=pods")


@pytest.mark.django_db
def test_the_status_of_a_cluster_that_is_silent_is_in_the_past(client, operator):
    client.force_login(operator)
    ago = datetime.now(UTC) - timedelta(hours=2)
    quiet = ClusterFactory(name="quiet", **healthy(ago, tunnel_up=False))
    store(quiet, {"cart-1": CRASHING}, minutes_ago=120)
    assert "was CrashLoopBackOff" in shown(client, f"/clusters/{quiet.pk}/?tab=pods")
    assert "was CrashLoopBackOff" in shown(client, "/pods/?within=1d")


@pytest.mark.django_db
@pytest.mark.parametrize("tab", ["overview", "nodes"])
def test_a_node_shows_its_roles_marks_and_why_it_has_no_numbers(client, alpha, tab):
    problem = "its kubelet gives no numbers: HTTP 500"
    node = {"roles": "control-plane,etcd", "conditions": "MemoryPressure", "cordoned": "1",
            "reason": "KubeletNotReady", "problem": problem}  # fmt: skip
    store(alpha, {}, node, ready=0)
    text = shown(client, f"/clusters/{alpha.pk}/?tab={tab}")
    for part in ("control-plane, etcd", "✖ not ready", "cordoned", "▲ memory pressure",
                 "KubeletNotReady", problem):  # fmt: skip
        assert part in text, part


@pytest.mark.django_db
def test_a_node_that_does_not_say_whether_it_is_ready_says_so(client, alpha):
    store(alpha, {}, ready=None)
    text = shown(client, f"/clusters/{alpha.pk}/?tab=nodes")
    assert "reporting, readiness not known" in text


@pytest.mark.django_db
def test_the_page_of_a_node_has_names_for_people(client, alpha):
    store(alpha, {}, {"arch": "amd64", "conditions": "DiskPressure", "pods_are": "systemd units"})
    text = shown(client, f"/clusters/{alpha.pk}/nodes/node-1/")
    for part in ("architecture amd64", "pressure disk pressure", "what is listed systemd units"):
        assert part in text, part
