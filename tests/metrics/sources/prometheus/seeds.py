"""Three installations: Kubernetes with today's labels, with those of 2019, and plain machines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.metrics.sources.prometheus.world import (
    GIB,
    MINUTE,
    Oracle,
    Prometheus,
    Value,
    World,
)
from tests.servers.prometheus import Sample, Series

TWO = (({"prometheus_replica": "a"}, 0), ({"prometheus_replica": "b"}, 7))
ONE = (({"prometheus": "x"}, 0),)
NODES = {"node-a": "10.0.0.1", "node-b": "10.0.0.2"}
HOSTS = ("db1.example.com", "db2.example.com")
MINUTES = 60
OUTAGE = (30, 36)  # minutes in which nothing was scraped
NODE_RESET, POD_RESET = 20, 44  # minutes in which a network counter starts anew


def exporter_of(address: str) -> dict[str, str]:
    return {"job": "node-exporter", "instance": f"{address}:9100"}


def modern(start: int) -> World:
    """Kubernetes of today, scraped by two replicas whose samples both lie in this server."""
    world = World(start, MINUTES, 7, TWO)
    world.outages.append((start + OUTAGE[0] * MINUTE + 10, start + OUTAGE[1] * MINUTE + 10))
    state = {"job": "kube-state-metrics", "instance": "10.1.0.9:8080"}
    for node, address in NODES.items():
        _machine(world, node, exporter_of(address), address)
        kubelet = {
            "job": "kubelet",
            "instance": f"{address}:10250",
            "node": node,
            "kubelet_of": node,
        }
        _kubelet(world, kubelet)
        world.add("kube_node_info", {
            **state, "node": node, "internal_ip": address, "os_image": "Debian 12",
        }, 1)  # fmt: skip
        for resource, amount in (("cpu", 4), ("memory", 16 * GIB), ("pods", 110)):
            labels = {**state, "node": node, "resource": resource}
            world.add("kube_node_status_capacity", labels, amount)
        for status, value in (("true", 1), ("false", 0), ("unknown", 0)):
            labels = {**state, "node": node, "condition": "Ready", "status": status}
            world.add(
                "kube_node_status_condition",
                labels,
                value if node == "node-a" or status != "true" else _until(world, 50),
            )
        _etcd(world, {"job": "etcd", "instance": f"{address}:2379", "of": node})
    pods = (
        ("default", "web-1", "node-a", ("nginx", "sidecar"), {}),
        ("default", "db-0", "node-b", ("db",), {}),
        ("batch", "job-x", "node-b", ("run",), {"until": start + 22 * MINUTE}),
        ("kube-system", "proxy-a", "node-a", ("proxy",), {}),
    )
    for ns, pod, node, containers, life in pods:
        kubelet = {
            "job": "kubelet",
            "instance": f"{NODES[node]}:10250",
            "node": node,
            "kubelet_of": node,
        }
        for container in containers:
            named = {**kubelet, "namespace": ns, "pod": pod, "container": container}
            if pod == "db-0":  # restarted: another id from then on, while the old one fades away
                _container(world, {**named, "id": "/kubepods/1"}, until=start + 40 * MINUTE + 15)
                _container(world, {**named, "id": "/kubepods/2"}, since=start + 40 * MINUTE)
            else:
                _container(world, {**named, "id": f"/kubepods/{pod}/{container}"}, **life)
            labels = {**state, "namespace": ns, "pod": pod, "container": container}
            world.add(
                "kube_pod_container_status_restarts_total", labels, _steps(world, 40, 3, 4), **life
            )
        # What the kubelet says of the pod as a whole and of its pause container must not count.
        _container(
            world,
            {**kubelet, "namespace": ns, "pod": pod, "container": "", "id": f"/{pod}"},
            **life,
        )
        _container(
            world,
            {**kubelet, "namespace": ns, "pod": pod, "container": "POD", "id": f"/{pod}/p"},
            **life,
        )
        resets = (POD_RESET * MINUTE + 5,) if pod == "web-1" else ()
        sandbox = {**kubelet, "namespace": ns, "pod": pod, "container": "POD", "id": f"/{pod}/p"}
        _network(
            world,
            "container_network_{}_bytes_total",
            sandbox,
            "interface",
            ("eth0", "lo"),
            resets,
            **life,
        )
        world.add("kube_pod_info", {
            **state, "namespace": ns, "pod": pod, "node": node, "host_ip": NODES[node],
            "host_network": "true" if ns == "kube-system" else "false",
            "created_by_kind": "ReplicaSet", "created_by_name": pod.rsplit("-", 1)[0],
        }, 1, **life)  # fmt: skip
    return world


def legacy(start: int) -> World:
    """Kubernetes 1.13 as in Gravity 6: other labels, kube-state-metrics 1, names not addresses."""
    world = World(start, MINUTES, 8, ONE)
    state = {"job": "kube-state-metrics", "instance": "10.1.0.9:8080"}
    for node, address in NODES.items():
        _machine(world, node, exporter_of(address), f"{node}.example.com")
        kubelet = {
            "job": "kubelet",
            "instance": node,
            "kubernetes_io_hostname": node,
            "kubelet_of": node,
        }
        _kubelet(world, kubelet)
        world.add("kube_node_info", {**state, "node": node, "os_image": "CentOS 7"}, 1)
        world.add("kube_node_status_capacity_cpu_cores", {**state, "node": node}, 8)
        world.add("kube_node_status_capacity_memory_bytes", {**state, "node": node}, 16 * GIB)
        labels = {**state, "node": node, "condition": "Ready", "status": "true"}
        world.add("kube_node_status_condition", labels, 1)
        pod = f"app-{node}"
        for container in ("app", "log"):
            named = {
                **kubelet,
                "namespace": "default",
                "pod_name": pod,
                "container_name": container,
            }
            _container(world, {**named, "id": f"/docker/{container}"})
            labels = {**state, "namespace": "default", "pod": pod, "container": container}
            world.add("kube_pod_container_status_restarts_total", labels, 2)
        sandbox = {
            **kubelet,
            "namespace": "default",
            "pod_name": pod,
            "container_name": "POD",
            "id": "/docker/pause",
        }
        _container(world, sandbox)
        _network(
            world,
            "container_network_{}_bytes_total",
            sandbox,
            "interface",
            ("eth0",),
            (POD_RESET * MINUTE,),
        )
        labels = {**state, "namespace": "default", "pod": pod, "node": node, "host_ip": address}
        world.add("kube_pod_info", labels, 1)
    return world


def machines(start: int) -> World:
    """Two machines without Kubernetes: a node-exporter on each, and nothing else."""
    # Scraped once a minute, Prometheus' own default.
    world = World(start, MINUTES, 9, (({"prometheus": "x"}, 17),), scrape=60)
    for address in HOSTS:
        _machine(world, address, exporter_of(address), address.partition(".")[0])
    return world


def _until(world: World, minute: int):
    return lambda time: 1.0 if time < world.start + minute * MINUTE else 0.0


def _steps(world: World, minute: int, before: float, after: float):
    return lambda time: before if time < world.start + minute * MINUTE else after


def _seventh(counter: Value) -> Value:
    return lambda time: counter(time) / 7  # all modes use less than a CPU; no rate ends in .5


def _machine(world: World, node: str, exporter: Mapping[str, str], nodename: str) -> None:
    world.add("up", exporter, 1)
    world.add(
        "node_uname_info",
        {**exporter, "nodename": nodename, "release": "6.1.0", "machine": "x86_64"},
        1,
    )
    for cpu in ("0", "1"):
        for mode in ("idle", "iowait", "user", "system", "steal"):
            world.add(
                "node_cpu_seconds_total",
                {**exporter, "cpu": cpu, "mode": mode},
                _seventh(world.counter(1)),
            )
    world.add("node_memory_MemTotal_bytes", exporter, 16 * GIB)
    world.add("node_memory_MemAvailable_bytes", exporter, world.gauge(GIB, 2 * GIB))
    world.add("node_load1", exporter, lambda time: (time % 977) / 100)
    world.add("node_boot_time_seconds", exporter, float(world.start - 86_400))
    for device, point, fstype in (
        ("/dev/sda1", "/", "ext4"), ("/dev/sdb1", "/var/data", "xfs"),
        ("/dev/sda1", "/etc/hosts", "ext4"), ("tmpfs", "/run", "tmpfs"),
    ):  # fmt: skip
        disk = {**exporter, "device": device, "mountpoint": point, "fstype": fstype}
        world.add("node_filesystem_size_bytes", disk, 100 * GIB)
        world.add("node_filesystem_free_bytes", disk, 40 * GIB)
        world.add("node_filesystem_avail_bytes", disk, 35 * GIB)
        world.add("node_filesystem_files", disk, 6_553_600)
        world.add("node_filesystem_files_free", disk, 6_000_000)
    resets = (NODE_RESET * MINUTE + 20,)
    _network(
        world,
        "node_network_{}_bytes_total",
        exporter,
        "device",
        ("eth0", "lo", "veth1f", "cni0"),
        resets,
    )


def _kubelet(world: World, kubelet: Mapping[str, str]) -> None:
    world.add("up", kubelet, 1)
    world.add("machine_cpu_cores", kubelet, 4)
    _container(world, {**kubelet, "id": "/"})


def _container(
    world: World, labels: Mapping[str, str], since: int = 0, until: int = 1 << 40
) -> None:
    life = {"since": since, "until": until}
    world.add(
        "container_cpu_usage_seconds_total", {**labels, "cpu": "total"}, world.counter(2), **life
    )
    memory = world.gauge(10_000_000, 900_000_000)
    # For a minute the sample is not a number: a missing value, not an error.
    hole = range(world.start + 10 * MINUTE, world.start + 11 * MINUTE + 1)
    world.add(
        "container_memory_working_set_bytes",
        labels,
        lambda time: float("nan") if time in hole else memory(time),
        **life,
    )
    world.add("container_memory_rss", labels, world.gauge(1_000_000, 9_000_000), **life)
    for device in ("/dev/sda1", "/dev/sdb1"):
        world.add(
            "container_fs_usage_bytes",
            {**labels, "device": device},
            world.gauge(4096, 1 << 20),
            **life,
        )


def _network(
    world: World, name: str, labels: Mapping[str, str], per: str, interfaces: Sequence[str],
    resets: Sequence[int], since: int = 0, until: int = 1 << 40,
) -> None:  # fmt: skip
    for interface in interfaces:
        for way in ("receive", "transmit"):
            counter = world.counter(50_000, resets=resets if way == "receive" else ())
            world.add(
                name.format(way), {**labels, per: interface}, counter, since=since, until=until
            )


def _etcd(world: World, labels: Mapping[str, str]) -> None:
    world.add("etcd_server_leader_changes_seen_total", labels, _steps(world, 33, 1, 2))
    seen = [world.counter(3) for _ in range(4)]
    for number, bound in enumerate(("0.001", "0.002", "0.004", "+Inf")):
        # Cumulative. Nothing is slower than 4 ms.
        parts = seen[: min(number + 1, 3)]
        world.add(
            "etcd_disk_wal_fsync_duration_seconds_bucket", {**labels, "le": bound},
            lambda time, parts=parts: sum(part(time) for part in parts),
        )  # fmt: skip


@dataclass(frozen=True)
class Seeds:
    """The three installations, on three days."""

    modern: World
    legacy: World
    machines: World

    def series(self) -> list[Series]:
        """Return the samples of all of them, each series once."""
        merged: dict[tuple[str, frozenset[tuple[str, str]]], list[Sample]] = {}
        for world in (self.machines, self.legacy, self.modern):  # ascending in time
            for name, labels, samples in world.series():
                merged.setdefault((name, frozenset(labels.items())), []).extend(samples)
        return [(name, dict(labels), samples) for (name, labels), samples in merged.items()]

    def oracle(self, name: str, rules: Prometheus) -> tuple[World, Oracle]:
        """Return an installation and what says what a server must make of it."""
        exporters = {node: exporter_of(address) for node, address in NODES.items()}
        if name == "machines":
            alone = {exporter_of(host)["instance"]: exporter_of(host) for host in HOSTS}
            return self.machines, Oracle(self.machines, alone, rules)
        world = self.modern if name == "modern" else self.legacy
        return world, Oracle(world, exporters, rules, old=name == "legacy")


def seeds(hour: int) -> Seeds:
    """Return installations whose samples end a day before an hour's start, and two more days."""
    day = 86_400
    return Seeds(modern(hour - day), legacy(hour - 2 * day), machines(hour - 3 * day))
