"""Kinds and fields that the agent measures, in the order of the spool's columns.

The server's ``metrics/series/catalog.py`` has the same ones with units; the agent ships alone and
cannot import it, so a test compares the two: the server may have more fields behind these. Append
only: stored minutes are read by position.
"""

from __future__ import annotations

from typing import Literal, get_args

Kind = Literal["node", "filesystem", "pod"]

KINDS: tuple[Kind, ...] = get_args(Kind)

FIELDS: dict[Kind, tuple[str, ...]] = {
    "node": (
        "cpu_mc",
        "cpu_cap_mc",
        "mem_ws",
        "mem_cap",
        "fs_used",
        "fs_cap",
        "inodes_total",
        "inodes_free",
        "net_rx_bps",
        "net_tx_bps",
        "load1_m",
        "uptime_s",
        "pods",
        "ready",
        "etcd_fsync_us",
    ),
    "filesystem": ("used", "cap", "inodes_total", "inodes_free"),
    "pod": ("cpu_mc", "mem_ws", "mem_rss", "fs_used", "net_rx_bps", "net_tx_bps", "restarts"),
}
