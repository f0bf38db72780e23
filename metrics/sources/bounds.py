"""What the value of a field can be: the rules of :mod:`metrics.sources.plausible`. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from agent.own_parts import possible
from metrics.series.catalog import FIELD_NAMES, KINDS, Kind
from metrics.series.rollups import LARGEST
from metrics.series.rows import Cell

BELOW_ZERO = "below zero"
ZERO = "0, which cannot be"
TOO_LARGE = "more than any machine has"
ABOVE_NODE = "more than its node has"
ABOVE_OWN = "more than there is"
WHYS = (BELOW_ZERO, ZERO, TOO_LARGE, ABOVE_NODE, ABOVE_OWN)

_CPUS = 8192  # NR_CPUS of Linux is at most this (arch/x86/Kconfig, NR_CPUS_RANGE_END)
_MEMORY = 1 << 52  # 4 PiB: the physical address space of x86-64 with five levels of page tables
_BYTES_PER_SECOND = 10**13  # a hundred cards of 800 Gbit/s
_MOST: Mapping[str, int] = {
    "cpu_mc": 1000 * _CPUS,
    "cpu_cap_mc": 1000 * _CPUS,
    "mem_ws": _MEMORY,
    "mem_cap": _MEMORY,
    "mem_rss": _MEMORY,
    "net_rx_bps": _BYTES_PER_SECOND,
    "net_tx_bps": _BYTES_PER_SECOND,
    "load1_m": 1000 * (1 << 22),  # PID_MAX_LIMIT of Linux: no more tasks can wait
    "uptime_s": 10**9,  # 31 years; a boot at the beginning of Unix time makes it 56
    "pods": 100_000,
    "ready": 1,
    "restarts": (1 << 31) - 1,  # restartCount is an int32 (k8s.io/api/core/v1)
    "etcd_fsync_us": 3600 * 10**6,
    "etcd_leader_changes": 10**9,  # an election takes a second and more
}
"""The largest value that any machine can have, by field; others: what can be stored."""

_LEAST: Mapping[tuple[Kind, str], int] = {
    ("node", "cpu_cap_mc"): 1,
    ("node", "mem_ws"): 1,
    ("node", "mem_cap"): 1,
    ("node", "fs_cap"): 1,
    ("node", "inodes_total"): 1,
    ("filesystem", "cap"): 1,
    ("filesystem", "inodes_total"): 1,
}
"""The smallest value of a field, in a node's or filesystem's own unit; 0 for others."""

NEVER_IDLE = ("node", "cpu_mc")  # a single sample may be 0, the mean of a minute is not


class Bounds(NamedTuple):
    """The lowest and the highest value of a field that can be believed, wherever it is."""

    least: int
    most: int

    def why(self, low: float, high: float) -> str:
        """Return why a value cannot be believed; "" if it can."""
        if low < 0:
            return BELOW_ZERO
        if low < self.least:
            return ZERO
        return TOO_LARGE if high > self.most else ""


BOUNDS: Mapping[Kind, tuple[Bounds, ...]] = {
    kind: tuple(
        Bounds(_LEAST.get((kind, name), 0), _MOST.get(name, LARGEST)) for name in FIELD_NAMES[kind]
    )
    for kind in KINDS
}
"""The bounds of each field, in the order of the catalogue."""


class Limit(NamedTuple):
    """A field that another one limits; in percent of it, the mean of a minute and each sample."""

    field: str
    of: str
    mean: int
    sample: int


# A rate is as exact as the times of its two readings, and under full load they are late; a capacity
# may be read some minutes later than it changed. df rounds, and filesystems grow while they are
# read.
_CPU = Limit("cpu_mc", "cpu_cap_mc", 125, 200)
LIMITS: Mapping[Kind, tuple[Limit, ...]] = {
    "node": (
        _CPU,
        Limit("mem_ws", "mem_cap", 110, 110),
        Limit("fs_used", "fs_cap", 101, 101),
        Limit("inodes_free", "inodes_total", 100, 100),
    ),
    "filesystem": (
        Limit("used", "cap", 101, 101),
        Limit("inodes_free", "inodes_total", 100, 100),
    ),
}
LIMITS_OF_PODS = (
    _CPU,
    Limit("mem_ws", "mem_cap", 110, 110),
    Limit("mem_rss", "mem_cap", 110, 110),
    Limit("fs_used", "fs_cap", 101, 101),
)
"""The fields of a pod that its node's capacity limits."""


def bounds_of(kind: Kind, field: str) -> Bounds:
    """Return the bounds of a field, for a source that adds up parts.

    Raises:
        ValueError: the kind has no such field.
    """
    return BOUNDS[kind][FIELD_NAMES[kind].index(field)]


def why_not(kind: Kind, field: str, cell: Cell) -> str:
    """Return why a minute's cell cannot be believed, whatever else there is; "" if it can."""
    why = bounds_of(kind, field).why(*extremes(cell))
    return ZERO if not why and (kind, field) == NEVER_IDLE and cell.total == 0 else why


def reason(kind: Kind, field: str, why: str) -> str:
    """Return the text that values are counted under, e.g. "node cpu_mc below zero"."""
    return f"{kind} {field} {why}"


REASONS: frozenset[str] = frozenset(
    reason(kind, name, why) for kind in KINDS for name in FIELD_NAMES[kind] for why in WHYS
)
"""Every text of :func:`reason`; nothing that a source sends is part of them."""


def limiting_field(kind: Kind, field: str) -> str | None:
    """Return the field of the series itself, or of a pod's node, that limits another one."""
    limit = limit_of(kind, field)
    return None if limit is None else limit.of


def fits(part: int | None, whole: int | None) -> bool:
    """Return whether a filesystem's used and capacity, or free and all inodes, can be added up.

    Args:
        part: the part in the unit of the catalogue; None if it is not known.
        whole: what it is a part of; None if it is not known.
    """
    return possible(part, whole) and max(part or 0, whole or 0) <= LARGEST


def limit_of(kind: Kind, field: str) -> Limit | None:
    """Return what limits a field; None if only the bounds do."""
    limits = LIMITS_OF_PODS if kind == "pod" else LIMITS.get(kind, ())
    return next((limit for limit in limits if limit.field == field), None)


def extremes(cell: Cell) -> tuple[int, int]:
    """Return a cell's lowest and highest value; the mean where one is not known."""
    low = cell.total // cell.n if cell.low is None else cell.low
    high = -(-cell.total // cell.n) if cell.high is None else cell.high
    return low, high


def is_above(cell: Cell, capacity: Cell, limit: Limit) -> bool:
    """Return whether a cell's mean or one of its samples is above the limit."""
    has = capacity.total * limit.mean * cell.n
    peak = capacity.total * limit.sample
    return 100 * cell.total * capacity.n > has or 100 * extremes(cell)[1] * capacity.n > peak
