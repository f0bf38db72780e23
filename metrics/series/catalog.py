"""The canonical metrics: kinds of series, their fields, units, and how fields combine.

Every value is an integer; NULL means "not measured" and is never written as 0. The order of
fields is the order of the store's columns: append only.

A series is named by (kind, ns, name):

=========== ================ =================== =========================================
kind        ns               name                what it is
=========== ================ =================== =========================================
cluster     ""               ""                  sums over the nodes that reported
node        ""               node name           one machine
filesystem  node name        mount point         one mounted filesystem of one node
pod         namespace        pod name            one pod; on a plain host, one service or
                                                 process group in namespace ``host``
=========== ================ =================== =========================================
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["cluster", "node", "filesystem", "pod"]
Unit = Literal["millicores", "bytes", "bytes/s", "count", "load x1000", "seconds", "us", "0..1"]
Combine = Literal["sum", "min", "max"]

TIERS: dict[str, int] = {"1m": 60, "10m": 600, "1h": 3600}
"""Tier name -> bucket width in seconds, finest first. Each width divides the next."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a kind."""

    name: str
    unit: Unit
    title: str
    across_nodes: Combine | None = None
    """How the nodes' values combine into the cluster's; None where it has no such field."""


_NODE = (
    Field("cpu_mc", "millicores", "CPU used", "sum"),
    Field("cpu_cap_mc", "millicores", "CPU capacity", "sum"),
    Field("mem_ws", "bytes", "Memory working set", "sum"),
    Field("mem_cap", "bytes", "Memory capacity", "sum"),
    Field("fs_used", "bytes", "Filesystems used", "sum"),
    Field("fs_cap", "bytes", "Filesystems capacity", "sum"),
    Field("inodes_total", "count", "Inodes", "sum"),
    Field("inodes_free", "count", "Inodes free", "sum"),
    Field("net_rx_bps", "bytes/s", "Network received", "sum"),
    Field("net_tx_bps", "bytes/s", "Network sent", "sum"),
    Field("load1_m", "load x1000", "Load, 1 minute", "sum"),
    Field("uptime_s", "seconds", "Uptime", "min"),
    Field("pods", "count", "Pods", "sum"),
    Field("ready", "0..1", "Ready", None),
    Field("etcd_fsync_us", "us", "etcd fsync p99", "max"),
    Field("etcd_leader_changes", "count", "etcd leader changes seen", "max"),
)
_LATER = ("etcd_leader_changes",)  # node fields that come after the cluster's own fields

CATALOG: dict[Kind, tuple[Field, ...]] = {
    "cluster": (
        *(f for f in _NODE if f.across_nodes and f.name not in _LATER),
        Field("nodes_ready", "count", "Nodes ready"),
        Field("nodes_total", "count", "Nodes"),
        *(f for f in _NODE if f.name in _LATER),
    ),
    "node": _NODE,
    "filesystem": (
        Field("used", "bytes", "Used"),
        Field("cap", "bytes", "Capacity"),
        Field("inodes_total", "count", "Inodes"),
        Field("inodes_free", "count", "Inodes free"),
    ),
    "pod": (
        Field("cpu_mc", "millicores", "CPU used"),
        Field("mem_ws", "bytes", "Memory working set"),
        Field("mem_rss", "bytes", "Memory resident"),
        Field("fs_used", "bytes", "Filesystem used"),
        Field("net_rx_bps", "bytes/s", "Network received"),
        Field("net_tx_bps", "bytes/s", "Network sent"),
        Field("restarts", "count", "Restarts"),
    ),
}

FIELD_NAMES: dict[Kind, tuple[str, ...]] = {
    kind: tuple(field.name for field in fields) for kind, fields in CATALOG.items()
}

KINDS: tuple[Kind, ...] = tuple(CATALOG)
DEFAULT_DAYS = {"1m": 7, "10m": 90, "1h": 730}
DEFAULT_HISTORY_DAYS = 730
LimitName = Kind | Literal["history"]
"""What retention has limits of: a kind of series by tier, or the history of states by ``days``."""


def field_of(kind: Kind, name: str) -> Field:
    """Return one field.

    Raises:
        KeyError: if the kind has no such field.
    """
    for field in CATALOG[kind]:
        if field.name == name:
            return field
    raise KeyError(name)


def default_limits() -> dict[LimitName, dict[str, int]]:
    """Return the limits of a new retention class: the usual days of every kind, and of history."""
    return {
        **{kind: dict(DEFAULT_DAYS) for kind in KINDS},
        "history": {"days": DEFAULT_HISTORY_DAYS},
    }
