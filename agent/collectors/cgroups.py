"""systemd's units from the cgroup tree, version 2 or 1.

A unit is a service, a scope (a session, a container, a virtual machine), a user's slice or a
Kubernetes pod's slice; its content is not distinguished. Files and their content:

========= ============================= ==========================================
          version 2                     version 1
========= ============================= ==========================================
CPU       ``cpu.stat`` usage_usec       ``cpuacct.usage``, nanoseconds
memory    ``memory.current`` less       ``memory.usage_in_bytes`` less
          inactive_file                 total_inactive_file
resident  ``memory.stat`` anon          ``memory.stat`` total_rss
========= ============================= ==========================================

Restarts are not here: systemd's NRestarts is only available over D-Bus.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from agent.collectors.base import Rates
from agent.collectors.units import Unit

_UNIT = re.compile(r".+\.(service|scope)$|user-\d+\.slice$|.+-pod[0-9a-f_-]{32,}\.slice$")
_MAX_DEPTH = 6


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the tree's CPU and memory files are; the same directory in version 2."""

    version: int
    cpu: Path
    memory: Path


def find_layout(root: Path) -> Layout | None:
    """Return the layout of the cgroup tree at ``root``; None if it has no systemd units.

    That is so in a container, which sees its own cgroup as the root, and without systemd.
    """
    if (root / "cgroup.controllers").is_file():
        layout = Layout(2, root, root)
        return layout if _has_services(root) else None
    for cpu in ("cpuacct", "cpu,cpuacct", "cpu"):
        if (root / cpu / "cpuacct.usage").is_file() and _has_services(root / cpu):
            return Layout(1, root / cpu, root / "memory")
    return None


def _has_services(root: Path) -> bool:
    return any(root.glob("system.slice/*.service"))


class CgroupUnits:
    """Reads all units of one tree; CPU rates are from one reading to the next."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._rates = Rates()

    def read(self, at: float) -> list[Unit]:
        """Return every unit that has processes. ``at`` is monotonic seconds."""
        units: dict[str, Unit] = {}
        for path in _walk(self._layout.cpu, 0):
            relative = path.relative_to(self._layout.cpu)
            unit = self._unit(relative, at)
            if unit is None:
                continue
            # The same unit name can exist in two slices; the second goes by its path.
            name = unit.name if unit.name not in units else str(relative).replace("/", ":")
            unit.name = name
            units[name] = unit
        self._rates.keep_only({str(unit.attrs["cgroup"]) for unit in units.values()})
        return list(units.values())

    def _unit(self, relative: Path, at: float) -> Unit | None:
        cpu, memory = self._layout.cpu / relative, self._layout.memory / relative
        if self._layout.version == 2:
            if _pairs(cpu / "cgroup.events").get("populated", 1) == 0:
                return None
            micros = _pairs(cpu / "cpu.stat").get("usage_usec")
            used, cache, anon = _number(memory / "memory.current"), "inactive_file", "anon"
        else:
            nanos = _number(cpu / "cpuacct.usage")
            micros = None if nanos is None else nanos // 1000
            used = _number(memory / "memory.usage_in_bytes")
            cache, anon = "total_inactive_file", "total_rss"
        if micros is None and used is None:
            return None  # gone between listing and reading
        stat = _pairs(memory / "memory.stat")
        rate = self._rates.rate(str(relative), micros, at)
        return Unit(
            name=_readable(relative.name),
            cpu_mc=None if rate is None else rate / 1000,
            mem_ws=None if used is None else max(0, used - stat.get(cache, 0)),
            mem_rss=stat.get(anon),
            attrs={"unit": relative.name, "cgroup": str(relative)},
        )


def _walk(directory: Path, depth: int) -> Iterator[Path]:
    """Yield the directories of units, looking inside slices only."""
    try:
        with os.scandir(directory) as entries:
            names = sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    except OSError:
        return  # a slice that has just gone
    for name in names:
        if _UNIT.match(name):
            yield directory / name
        elif name.endswith(".slice") and depth < _MAX_DEPTH:
            yield from _walk(directory / name, depth + 1)


def _readable(name: str) -> str:
    r"""Undo systemd's escaping of names: ``dev-disk\x2dby`` is ``dev-disk-by``."""
    return re.sub(r"\\x([0-9a-f]{2})", lambda match: chr(int(match[1], 16)), name)


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None  # no such controller, or the unit has gone


def _pairs(path: Path) -> dict[str, int]:
    """Return the ``name number`` lines of a file; empty if it cannot be read."""
    try:
        text = path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return {}  # no such controller, or the unit has gone
    pairs = {}
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if value.isdigit():
            pairs[name] = int(value)
    return pairs
