"""Units from the cgroup tree of a machine with systemd, version 2 or 1.

A unit is a service, a scope (a session, a container, a virtual machine), a user's slice or a
Kubernetes pod's slice; its content is not distinguished. Engines that do not go through systemd
have cgroups of their own beside its slices, such as ``/docker/<id>``: each container, or each pod
of Kubernetes, is a unit, and a cgroup of an unknown kind is one as a whole. Files and their
content:

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
_SYSTEMD = re.compile(
    r".+\.(automount|device|mount|path|scope|service|slice|socket|swap|target|timer)$"
)
# Cgroups of engines that only hold those of containers, whatever these are called.
_PARENTS = frozenset({
    "actions_job", "buildkit", "default", "docker", "ecs", "garden", "k8s.io", "libpod_parent",
    "lxc", "machine", "moby",
})  # fmt: skip
_CONTAINER = re.compile(r"(.*[^0-9a-f])?[0-9a-f]{64}|pod[0-9a-f_-]{32,}")
_CLASSES = frozenset({"besteffort", "burstable", "guaranteed", "kubepods"})
_ESCAPES = re.compile(r"(?:\\x[0-9a-f]{2})+")
_SHORT_ID = 12  # characters, as Docker shows ids
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
            name=_unit_name(relative),
            cpu_mc=None if rate is None else rate / 1000,
            mem_ws=None if used is None else max(0, used - stat.get(cache, 0)),
            mem_rss=stat.get(anon),
            attrs={"unit": relative.name, "cgroup": str(relative)},
        )


def _walk(directory: Path, depth: int) -> Iterator[Path]:
    """Yield the directories of units, looking inside slices, and beside them at the top."""
    for name in _directories(directory):
        if _UNIT.match(name):
            yield directory / name
        elif name.endswith(".slice") and depth < _MAX_DEPTH:
            yield from _walk(directory / name, depth + 1)
        elif depth == 0 and not _SYSTEMD.match(name):
            yield from _of_engine(directory / name, depth + 1)


def _of_engine(directory: Path, depth: int) -> Iterator[Path]:
    """Yield the containers or pods below a cgroup that systemd did not make; else the cgroup."""
    inside = _directories(directory)
    holds_units = directory.name in _PARENTS | _CLASSES or any(map(_CONTAINER.fullmatch, inside))
    if _CONTAINER.fullmatch(directory.name) or not holds_units:
        yield directory
        return
    for name in inside:
        if name in _CLASSES and depth < _MAX_DEPTH:
            yield from _of_engine(directory / name, depth + 1)
        else:
            yield directory / name


def _directories(directory: Path) -> list[str]:
    try:
        with os.scandir(directory) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    except OSError:
        return []  # a slice that has just gone


def _unit_name(relative: Path) -> str:
    """Return the name for people; a container goes by its engine and the start of its id."""
    name = _readable(relative.name)
    if len(relative.parts) == 1 or _SYSTEMD.match(relative.parts[0]):
        return name
    if not _CONTAINER.fullmatch(name):
        return f"{relative.parent.name}-{name}"
    return name if name.startswith("pod") else f"{relative.parent.name}-{name[-64:][:_SHORT_ID]}"


def _readable(name: str) -> str:
    r"""Undo systemd's escaping of bytes in names: ``dev-disk\x2dby`` is ``dev-disk-by``.

    What is not UTF-8 stays as it is.
    """

    def plain(match: re.Match[str]) -> str:
        try:
            return bytes.fromhex(match[0].replace("\\x", "")).decode("utf-8")
        except UnicodeDecodeError:
            return match[0]

    return _ESCAPES.sub(plain, name)


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
