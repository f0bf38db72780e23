"""Any Linux machine, from ``/proc``, the cgroup tree and statvfs, without privileges.

The node is the machine as the kernel shows it. CPU capacity is the number of online CPUs: a quota
on the agent's own cgroup is not applied, since ``/proc/stat`` counts the whole machine's use and
the two must match.

Services are reported as pods of the namespace ``host``: systemd's units if there are any, else
process groups by command.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from agent.collectors.base import Collected, CollectorError, DaemonCall, Rates
from agent.collectors.cgroups import CgroupUnits, find_layout
from agent.collectors.cpu_time import CpuTime, parse_cpu
from agent.collectors.filesystems import Filesystems
from agent.collectors.interfaces import own_counters, read_counters, read_links
from agent.collectors.processes import ProcessGroups
from agent.collectors.units import OTHER, Unit, keep_largest, unit_sample
from agent.own_parts import own_interfaces
from agent.samples import make_sample

READ_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class _Basics:
    """What is read in the thread; rates are None at the first reading."""

    values: dict[str, float | None]
    units: list[Unit]
    source: str
    problems: dict[str, str]


class HostCollector:
    """Collects the machine that the agent runs on.

    Args:
        node_name: name of the node; "" for the host name.
        proc: path of ``/proc``; ``/sys`` is beside it.
        cgroup: path of the cgroup tree.
        filesystems: reads the mount table; by default that of ``proc``.
    """

    name = "host"

    def __init__(
        self,
        *,
        node_name: str = "",
        proc: Path = Path("/proc"),
        cgroup: Path = Path("/sys/fs/cgroup"),
        etc: Path = Path("/etc"),
        filesystems: Filesystems | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        ticks_per_second: int | None = None,
        page_bytes: int | None = None,
    ) -> None:
        self._node = node_name or platform.node() or "localhost"
        self._proc = proc
        self._cgroup = cgroup
        self._sys = proc.parent / "sys" / "class" / "net"
        self._monotonic = monotonic
        self._ticks = ticks_per_second or os.sysconf("SC_CLK_TCK")
        self._filesystems = filesystems or Filesystems(proc / "self" / "mountinfo")
        self._cpu_time = CpuTime()
        self._rates = Rates()
        self._processes = ProcessGroups(
            proc,
            ticks_per_second=self._ticks,
            page_bytes=page_bytes or os.sysconf("SC_PAGE_SIZE"),
        )
        self._cgroups: CgroupUnits | None = None
        self._reported: frozenset[str] = frozenset()
        self._thread: DaemonCall[_Basics] = DaemonCall("host collector")
        self._attrs = {
            "os": _os_name(etc),
            "kernel": platform.release(),
            "arch": platform.machine(),
        }

    async def collect(self, now: float) -> Collected:  # noqa: ARG002 - the protocol's
        """Return this machine's node, filesystems and services.

        Raises:
            CollectorError: ``/proc`` does not answer at all.
        """
        try:
            basics = await self._thread.run(self._read, timeout=READ_SECONDS)
        except TimeoutError as exc:
            msg = f"/proc does not answer within {READ_SECONDS:g} s"
            raise CollectorError(msg) from exc
        disks = await self._filesystems.read(self._node)
        values: dict[str, float | None] = {
            **basics.values,
            **disks.totals,
            "pods": len(basics.units),
            "ready": 1,
        }
        attrs = {**self._attrs, "pods_are": basics.source}
        node = make_sample("node", self._node, values, attrs=attrs)
        pods = [unit_sample(unit, self._node) for unit in basics.units]
        return Collected([node, *disks.samples, *pods], {**basics.problems, **disks.problems})

    async def close(self) -> None:
        """Do nothing: threads are daemons that end by themselves."""

    def _read(self) -> _Basics:
        at = self._monotonic()
        values, busy_ticks = self._cpu(at)
        values |= self._memory()
        values |= self._network(at)
        values["load1_m"] = _scaled(_first_number(self._proc / "loadavg"), 1000)
        values["uptime_s"] = _first_number(self._proc / "uptime")
        units, source = self._units(at, busy_ticks)
        problems = {
            name: "could not be read"
            for name in ("cpu_cap_mc", "mem_cap", "load1_m", "uptime_s")
            if values.get(name) is None
        }
        largest = keep_largest(
            units,
            cpu_cap_mc=values.get("cpu_cap_mc") or 1000,
            mem_cap=int(values.get("mem_cap") or 2**30),
            stay=self._reported,
        )
        self._reported = frozenset(unit.name for unit in largest) - {OTHER}
        return _Basics(values, largest, source, problems)

    def _cpu(self, at: float) -> tuple[dict[str, float | None], float | None]:
        """Return used and capacity, and the machine's busy ticks since the last reading."""
        reading = parse_cpu(_read_lines(self._proc / "stat"))
        used = self._cpu_time.used(reading, at)
        if reading is None:
            return {"cpu_mc": None, "cpu_cap_mc": None}, None
        capacity = 1000.0 * reading.online
        if used is None:
            return {"cpu_mc": None, "cpu_cap_mc": capacity}, None
        ticks, seconds = used
        millicores = min(capacity, 1000 * ticks / self._ticks / seconds)
        return {"cpu_mc": millicores, "cpu_cap_mc": capacity}, ticks

    def _memory(self) -> dict[str, float | None]:
        found: dict[str, int] = {}
        for line in _read_lines(self._proc / "meminfo"):
            name, _, rest = line.partition(":")
            number = rest.split()[:1]
            if number and number[0].isdigit():
                found[name] = int(number[0]) * 1024
        total, available = found.get("MemTotal") or None, found.get("MemAvailable")
        if total is None or available is None or available >= total:
            return {"mem_ws": None, "mem_cap": total}  # nothing used cannot be
        return {"mem_ws": total - available, "mem_cap": total}

    def _network(self, at: float) -> dict[str, float | None]:
        """Return the sums over own interfaces; None if one of them was reset or none is known."""
        sums: dict[str, float | None] = {"net_rx_bps": None, "net_tx_bps": None}
        counters = read_counters(self._proc)
        own = own_interfaces(counters, read_links(counters, self._proc, self._sys))
        reset: set[str] = set()
        keys = set()
        for interface, field, counter in own_counters(counters, own):
            key = (interface, field)
            keys.add(key)
            known = self._rates.seen(key)
            rate = self._rates.rate(key, counter, at)
            if rate is not None:
                sums[field] = (sums[field] or 0) + rate
            elif known:
                reset.add(field)
        self._rates.keep_only(keys)
        return {field: None if field in reset else value for field, value in sums.items()}

    def _units(self, at: float, busy_ticks: float | None) -> tuple[list[Unit], str]:
        if self._cgroups is None:
            layout = find_layout(self._cgroup)
            if layout is not None:
                self._cgroups = CgroupUnits(layout)
        if self._cgroups is not None:
            units = self._cgroups.read(at)
            if units:
                return units, "systemd units"
            self._cgroups = None  # the tree is gone: search again next time
        return self._processes.read(at, busy_ticks=busy_ticks), "process groups"


def _read_lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []  # not offered by this kernel or container: the fields stay None


def _first_number(path: Path) -> float | None:
    lines = _read_lines(path)
    try:
        return float(lines[0].split()[0])
    except (IndexError, ValueError):
        return None


def _scaled(value: float | None, factor: int) -> float | None:
    return None if value is None else value * factor


def _os_name(etc: Path) -> str:
    for line in _read_lines(etc / "os-release"):
        name, _, value = line.partition("=")
        if name == "PRETTY_NAME":
            return value.strip().strip("\"'")
    return platform.system()
