"""The queries for the fields of nodes and of their filesystems. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from agent.own_parts import VIRTUAL_INTERFACES
from metrics.sources.prometheus.queries.parts import (
    CADVISOR,
    CARDS,
    ETCD,
    FS,
    KSM_NODE,
    KUBE_STATE,
    MOUNTS,
    NODE,
    NODE_EXPORTER,
    POD,
    RATE_HINT,
    READY,
    Query,
    believable,
    fresh,
)

_ROOT = '{id="/"}'
_ROOT_DISKS = '{id="/",device=~"/dev/.+",device!~"/dev/(shm|fuse|loop|longhorn|ram|rbd|sr).*"}'


def _network_of_nodes(selector: str, per: str) -> str:
    """Return each interface's rate; below zero for two minutes around a reset of its counter."""
    rate, resets = (
        f"max by({NODE},{per})({function}({selector}[2m]))" for function in ("rate", "resets")
    )
    return f"(round({rate})+1)*(1-2*({resets}>bool 0))-1"


def _capacity(resource: str, old: str, factor: str = "") -> str:
    new = f'kube_node_status_capacity{{resource="{resource}"}}'
    return f"round({factor}max by({KSM_NODE})({new} or {old}))"


def _root(metric: str) -> str:
    return f"round(max by({NODE})({fresh(metric + _ROOT)}))"


def _disk(field: str, metric: str) -> str:
    parts = f"max by({NODE},device)({fresh(metric + _ROOT_DISKS)})"
    return f"round(sum by({NODE})({believable(parts, 'node', field)}))"


def node_queries() -> Iterable[Query]:
    """Yield the queries for the fields of nodes."""
    cpu, modes = "container_cpu_usage_seconds_total", 'mode!~"idle|iowait|guest|guest_nice"'
    parts = believable(f"max by({NODE},cpu)(rate({cpu}{_ROOT}[2m]))", "node", "cpu_mc", 1000)
    yield Query(
        "node", "cpu_mc", 0, f"round(1000*sum by({NODE})({parts}))", (cpu,), CADVISOR, RATE_HINT
    )
    # One mode of one CPU is at most a whole CPU. One that falls at every reading, as steal may
    # (prometheus/node_exporter#742), is taken for a counter that starts anew, and is far more; one
    # that falls below zero is less than nothing.
    yield Query(
        "node", "cpu_mc", 1,
        f"round(1000*sum by({NODE})(max by({NODE},cpu,mode)"
        f"(rate(node_cpu_seconds_total{{{modes}}}[2m]))>=0<=2))",
        ("node_cpu_seconds_total",), NODE_EXPORTER, RATE_HINT,
    )  # fmt: skip
    for field, resource, old, machine, own, factor in (
        ("cpu_cap_mc", "cpu", "kube_node_status_capacity_cpu_cores", "machine_cpu_cores",
         f'count by({NODE})(max by({NODE},cpu)(node_cpu_seconds_total{{mode="idle"}}))', "1000*"),
        ("mem_cap", "memory", "kube_node_status_capacity_memory_bytes", "machine_memory_bytes",
         f"max by({NODE})(node_memory_MemTotal_bytes)", ""),
    ):  # fmt: skip
        names = ("kube_node_status_capacity", old)
        yield Query("node", field, 0, _capacity(resource, old, factor), names, KUBE_STATE)
        on_root = f"round({factor}max by({NODE})({machine}))"
        yield Query("node", field, 1, on_root, (machine,), CADVISOR)
        name = "node_cpu_seconds_total" if factor else "node_memory_MemTotal_bytes"
        yield Query("node", field, 2, f"round({factor}{own})", (name,), NODE_EXPORTER)
    memory = "container_memory_working_set_bytes"
    yield Query("node", "mem_ws", 0, _root(memory), (memory,), CADVISOR)
    yield Query(
        "node", "mem_ws", 1,
        f"round(max by({NODE})(node_memory_MemTotal_bytes-node_memory_MemAvailable_bytes))",
        ("node_memory_MemAvailable_bytes",), NODE_EXPORTER,
    )  # fmt: skip
    # Rank 0 of these is the sum of the node's filesystems, which is made from the answer.
    for field, metric in (
        ("fs_used", "container_fs_usage_bytes"), ("fs_cap", "container_fs_limit_bytes"),
        ("inodes_total", "container_fs_inodes_total"), ("inodes_free", "container_fs_inodes_free"),
    ):  # fmt: skip
        yield Query("node", field, 1, _disk(field, metric), (metric,), CADVISOR)
    for field, way in (("net_rx_bps", "receive"), ("net_tx_bps", "transmit")):
        for rank, prefix, selector, label, exporter in (
            (0, "node", CARDS, "device", NODE_EXPORTER),
            (1, "container", f'id="/",interface!~"{VIRTUAL_INTERFACES}"', "interface", CADVISOR),
        ):
            name = f"{prefix}_network_{way}_bytes_total"
            expr = _network_of_nodes(f"{name}{{{selector}}}", label)
            yield Query("node", field, rank, expr, (name,), exporter, RATE_HINT, label)
    yield from _node_facts()


def _node_facts() -> Iterable[Query]:
    yield Query(
        "node", "load1_m", 0, f"round(1000*max by({NODE})(node_load1))",
        ("node_load1",), NODE_EXPORTER,
    )  # fmt: skip
    yield Query(
        "node", "uptime_s", 0, f"round(max by({NODE})(time()-node_boot_time_seconds))",
        ("node_boot_time_seconds",), NODE_EXPORTER,
    )  # fmt: skip
    pods = f'max by({POD},{KSM_NODE})(kube_pod_info{{node!=""}})'
    yield Query("node", "pods", 0, f"count by({KSM_NODE})({pods})", ("kube_pod_info",), KUBE_STATE)
    yield Query("node", "ready", 0, READY, ("kube_node_status_condition",), KUBE_STATE)
    fsync = "etcd_disk_wal_fsync_duration_seconds_bucket"
    yield Query(
        "node", "etcd_fsync_us", 0,
        f"round(1e6*histogram_quantile(0.99,max by({NODE},pod,le)(rate({fsync}[5m]))))",
        (fsync,), ETCD, "etcd wrote nothing within five minutes",
    )  # fmt: skip
    leader = "etcd_server_leader_changes_seen_total"
    yield Query("node", "etcd_leader_changes", 0, f"max by({NODE},pod)({leader})", (leader,), ETCD)


def filesystem_queries() -> Iterable[Query]:
    """Yield the queries for the fields of filesystems."""
    # What has no partner on the left is left out.
    size = f"node_filesystem_size_bytes{MOUNTS}"
    free, avail, files = (
        f"node_filesystem_{name}" for name in ("free_bytes", "avail_bytes", "files")
    )
    hint = "only filesystems that hold data count, not tmpfs or the layers of containers"
    for field, value, metric in (
        # Like df and the agent: what is reserved for root is neither used nor capacity.
        ("used", f"{size}-{free}", free),
        ("cap", f"{size}-{free}+{avail}", avail),
        ("inodes_total", f"{files}{MOUNTS}>0", files),
        ("inodes_free", f"{files}_free{MOUNTS} and {files}>0", f"{files}_free"),
    ):  # fmt: skip
        expr = f"max by({FS})({value})"
        yield Query("filesystem", field, 0, expr, (metric,), NODE_EXPORTER, hint)
