"""Why a bucket of Telegraf lacks a field of the catalogue. Pure."""

from __future__ import annotations

from collections.abc import Collection

from metrics.series.catalog import CATALOG, Kind
from metrics.sources.base import FieldProbe
from metrics.sources.influxdb2.rows import Tables
from metrics.sources.row_builder import MASK

_ETCD = "Telegraf's default inputs do not have it: add etcd itself as a source"
_FROM: dict[tuple[Kind, str], tuple[str, ...]] = {
    ("node", "cpu_mc"): ("kubernetes_node", "cpu"),
    ("node", "cpu_cap_mc"): ("kubernetes_node", "system"),
    ("node", "mem_ws"): ("kubernetes_node", "mem"),
    ("node", "mem_cap"): ("kubernetes_node", "mem"),
    ("node", "fs_used"): ("kubernetes_node", "disk"),
    ("node", "fs_cap"): ("kubernetes_node", "disk"),
    ("node", "inodes_total"): ("disk",),
    ("node", "inodes_free"): ("disk",),
    ("node", "net_rx_bps"): ("kubernetes_node", "net"),
    ("node", "net_tx_bps"): ("kubernetes_node", "net"),
    ("node", "load1_m"): ("system",),
    ("node", "uptime_s"): ("system",),
    ("node", "pods"): ("kubernetes_pod_container",),
    ("node", "ready"): ("kubernetes_node",),
    ("filesystem", "used"): ("kubernetes_node", "disk"),
    ("filesystem", "cap"): ("kubernetes_node", "disk"),
    ("filesystem", "inodes_total"): ("disk",),
    ("filesystem", "inodes_free"): ("disk",),
    ("pod", "cpu_mc"): ("kubernetes_pod_container",),
    ("pod", "mem_ws"): ("kubernetes_pod_container",),
    ("pod", "mem_rss"): ("kubernetes_pod_container",),
    ("pod", "fs_used"): ("kubernetes_pod_container",),
    ("pod", "net_rx_bps"): ("kubernetes_pod_network",),
    ("pod", "net_tx_bps"): ("kubernetes_pod_network",),
    ("pod", "restarts"): ("kubernetes_pod_container",),
}
_INVENTORY = {"ready", "restarts", "cpu_cap_mc", "mem_cap"}


def probe_fields(kind: Kind, tables: Tables, names: Collection[str]) -> list[FieldProbe]:
    """Return for every field of a kind how many series have it, and if none, why.

    Args:
        kind: the series' kind.
        tables: the tables of the newest minutes.
        names: the names of the bucket's measurements.
    """
    probes = []
    for field in CATALOG[kind]:
        column = tables.tables[kind].fields[field.name]
        series = len({code & MASK for code in column})
        why = "" if series else _why(kind, field.name, names)
        probes.append(FieldProbe(kind, field.name, series, why))
    return probes


def _why(kind: Kind, field: str, names: Collection[str]) -> str:
    wanted = _FROM.get((kind, field))
    if wanted is None:
        return _ETCD
    present = [name for name in wanted if name in names]
    listed = " or ".join(repr(name) for name in wanted)
    if not present:
        return f"Telegraf does not write {listed} into this bucket"
    from_api = " (from the input kube_inventory)" if field in _INVENTORY else ""
    return f"{listed}{from_api} has no values of it in the newest minutes"
