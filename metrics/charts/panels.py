"""The charts of each kind of series, and their lines as columns of numbers. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from metrics.query.answers import RangeAnswer

Role = Literal["cpu", "mem", "disk", "net", "net2"]


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a panel: the field, or ``of`` minus ``field`` if ``of`` is set."""

    field: str
    title: str
    role: Role
    of: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """One chart of a page. ``capacity`` is the field of the dashed line, "" for none."""

    name: str
    title: str
    unit: str
    lines: tuple[Line, ...]
    capacity: str = ""

    @property
    def fields(self) -> list[str]:
        """Return every field that has to be read."""
        return list(dict.fromkeys([*self.line_fields, *([self.capacity] if self.capacity else [])]))

    @property
    def line_fields(self) -> list[str]:
        """Return every field that the lines use."""
        names = (name for line in self.lines for name in (line.field, line.of) if name)
        return list(dict.fromkeys(names))


_CPU = Panel("cpu", "CPU used", "millicores", (Line("cpu_mc", "CPU", "cpu"),), "cpu_cap_mc")
_MEMORY = Panel("memory", "Memory working set", "bytes", (Line("mem_ws", "memory", "mem"),))
_NETWORK = Panel(
    "network",
    "Network",
    "bytes/s",
    (Line("net_rx_bps", "received", "net"), Line("net_tx_bps", "sent", "net2")),
)
_INODES = Panel(
    "inodes",
    "Inodes used",
    "count",
    (Line("inodes_free", "inodes used", "disk", of="inodes_total"),),
    "inodes_total",
)
_MACHINE = (
    _CPU,
    Panel("memory", _MEMORY.title, "bytes", _MEMORY.lines, "mem_cap"),
    Panel("filesystem", "Filesystems used", "bytes", (Line("fs_used", "used", "disk"),), "fs_cap"),
    _INODES,
    _NETWORK,
)
_ETCD = Panel(
    "etcd", "etcd fsync, 99th percentile", "us", (Line("etcd_fsync_us", "fsync", "disk"),)
)
_LOAD = Panel("load", "Load, 1 minute", "load x1000", (Line("load1_m", "load", "cpu"),))
PANELS: dict[str, tuple[Panel, ...]] = {
    "cluster": (*_MACHINE, _ETCD),
    "node": (*_MACHINE, _LOAD, _ETCD),
    "filesystem": (
        Panel("used", "Space used", "bytes", (Line("used", "used", "disk"),), "cap"),
        _INODES,
    ),
    "pod": (
        Panel("cpu", _CPU.title, "millicores", _CPU.lines),
        _MEMORY,
        _NETWORK,
        Panel("filesystem", "Filesystem used", "bytes", (Line("fs_used", "used", "disk"),)),
        Panel("restarts", "Restarts", "count", (Line("restarts", "restarts", "cpu"),)),
    ),
}


def panel_of(kind: str, name: str) -> Panel | None:
    """Return a panel of a kind of series by its name; None if there is none."""
    return next((panel for panel in PANELS.get(kind, ()) if panel.name == name), None)


@dataclass(frozen=True, slots=True)
class Column:
    """One line of a panel as columns of numbers, in the panel's own unit."""

    line: Line
    t: list[int]
    mean: list[float]
    low: list[float | None]
    high: list[float | None]
    coverage: list[float]
    samples: list[int]


def columns(panel: Panel, answers: Mapping[str, RangeAnswer]) -> list[Column]:
    """Return the lines of a panel, with differences of two fields computed."""
    found = []
    for line in panel.lines:
        a = answers[line.field]
        if not line.of:
            found.append(Column(line, a.t, a.mean, [*a.min], [*a.max], a.coverage, a.samples))
            continue
        whole = dict(zip(answers[line.of].t, answers[line.of].mean, strict=True))
        rows = [
            (t, whole[t] - mean, _left(whole[t], high), _left(whole[t], low), share, minutes)
            for t, mean, low, high, share, minutes in zip(
                a.t, a.mean, a.min, a.max, a.coverage, a.samples, strict=True
            )
            if t in whole
        ]
        lists: list[list[Any]] = [[row[at] for row in rows] for at in range(6)]
        found.append(Column(line, *lists))
    return found


def _left(whole: float, part: float | None) -> float | None:
    return None if part is None else whole - part
