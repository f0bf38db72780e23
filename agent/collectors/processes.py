"""Process groups by command, for machines without systemd units: containers, minimal systems.

A group's CPU is what its processes used since the last reading:

* a process seen twice: the difference of its own time (user + system);
* a process started since: all of its time;
* a process that ended since: its remaining time shows up in its parent's "children's time" once it
  was waited for. The part that was not counted before goes to the parent's group, as do processes
  that started and ended between two readings. A child that outlives its parent can make that figure
  wrong, so all such time together is limited to what the machine used beyond the living processes.

Memory is ``statm``: ``mem_ws`` is resident less shared (file mappings and shared memory), so that
twenty workers of one program do not count its code twenty times; ``mem_rss`` is all resident.
Pages shared copy-on-write after a fork still count in each process; the exact figure (PSS) would
cost a walk through every process's page tables.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from agent.collectors.base import RATE_MAX_SECONDS
from agent.collectors.interpreters import is_interpreter, plain_name, script_name
from agent.collectors.units import Unit

KERNEL = "kernel"
"""Name of the group of all kernel threads."""
_PF_KTHREAD = 0x00200000
_MAX_CMDLINE = 4096


@dataclass(frozen=True, slots=True)
class Process:
    """One line of ``/proc/<pid>/stat``; times are in clock ticks."""

    pid: int
    parent: int
    comm: str
    kernel_thread: bool
    own: int  # user + system time
    children: int  # the same of children that ended and were waited for
    started: int  # after boot
    resident: int  # pages

    @property
    def key(self) -> tuple[int, int]:
        """Return the identity of the process; process ids are reused."""
        return (self.pid, self.started)


def parse_stat(text: str) -> Process | None:
    """Return the process; None if the text is no stat line.

    The command is between the first "(" and the last ")", and may itself hold both.
    """
    head, _, rest = text.partition(" (")
    comm, _, tail = rest.rpartition(") ")
    fields = tail.split()
    if not head.isdigit() or len(fields) < 22:
        return None
    return Process(
        pid=int(head),
        parent=int(fields[1]),
        comm=comm,
        kernel_thread=bool(int(fields[6]) & _PF_KTHREAD),
        own=int(fields[11]) + int(fields[12]),
        children=int(fields[13]) + int(fields[14]),
        started=int(fields[19]),
        resident=int(fields[21]),
    )


def command_name(comm: str, cmdline: list[str]) -> str:
    """Return the common name of the process, without any of its arguments.

    An interpreter is named with its script or module (``python3:manage.py``, ``java:app.jar``) if
    it is certain that this is one: program text and arguments can hold secrets.
    """
    first = plain_name(cmdline[0]) if cmdline else ""
    # The kernel cuts a command at 15 characters; a rewritten title ("nginx: worker") is no path.
    name = first if len(comm) >= 15 and first.startswith(comm) else comm
    if not is_interpreter(name):
        return name or "?"  # of a program, or one that named its own process
    script = script_name(name, cmdline[1:])
    return f"{name}:{script}" if script else name


class ProcessGroups:
    """Reads all processes below one ``/proc``; CPU is from one reading to the next."""

    def __init__(self, proc: Path, *, ticks_per_second: int, page_bytes: int) -> None:
        self._proc = proc
        self._ticks = ticks_per_second
        self._page = page_bytes
        self._before: dict[tuple[int, int], Process] = {}
        self._names: dict[tuple[int, int], tuple[str, str]] = {}  # key -> comm, group
        self._at: float | None = None

    def read(self, at: float, *, busy_ticks: float | None) -> list[Unit]:
        """Return all groups.

        Args:
            at: time of the reading, monotonic seconds.
            busy_ticks: clock ticks that the whole machine used since the last reading; None if not
                known.
        """
        units: dict[str, Unit] = {}
        now: dict[tuple[int, int], Process] = {}
        for process in self._processes():
            now[process.key] = process
            unit = units.setdefault(self._group(process), Unit(self._group(process)))
            self._add_memory(unit, process)
        self._names = {key: self._names[key] for key in now}
        seconds = None if self._at is None else at - self._at
        if seconds is not None and 0 < seconds <= RATE_MAX_SECONDS:
            ticks = self._ticks_by_group(now, busy_ticks)
            for name, unit in units.items():
                unit.cpu_mc = 1000 * ticks.get(name, 0) / self._ticks / seconds
        self._before, self._at = now, at
        return list(units.values())

    def _processes(self) -> Iterator[Process]:
        with os.scandir(self._proc) as entries:
            pids = [entry.name for entry in entries if entry.name.isdigit()]
        for pid in pids:
            try:
                text = (self._proc / pid / "stat").read_text(encoding="utf-8", errors="replace")
            except OSError:
                continue  # ended since the listing, or hidden from us
            process = parse_stat(text)
            if process is not None:
                yield process

    def _group(self, process: Process) -> str:
        known = self._names.get(process.key)
        # A process that runs another program keeps its id and start time.
        if known is None or known[0] != process.comm:
            name = KERNEL
            if not process.kernel_thread:
                name = command_name(process.comm, self._cmdline(process.pid))
            known = self._names[process.key] = (process.comm, name)
        return known[1]

    def _cmdline(self, pid: int) -> list[str]:
        try:
            with (self._proc / str(pid) / "cmdline").open("rb") as file:
                raw = file.read(_MAX_CMDLINE)
        except OSError:
            return []  # ended, or hidden from us
        return raw.decode("utf-8", errors="replace").rstrip("\0").split("\0")

    def _add_memory(self, unit: Unit, process: Process) -> None:
        unit.processes = (unit.processes or 0) + 1
        if process.kernel_thread:
            return
        try:
            text = (self._proc / str(process.pid) / "statm").read_text(encoding="ascii")
            resident, shared = (int(number) for number in text.split()[1:3])
        except (OSError, ValueError):
            return  # ended, or hidden from us
        unit.mem_rss = (unit.mem_rss or 0) + resident * self._page
        unit.mem_ws = (unit.mem_ws or 0) + max(0, resident - shared) * self._page

    def _ticks_by_group(
        self, now: dict[tuple[int, int], Process], busy_ticks: float | None
    ) -> dict[str, float]:
        ticks: dict[str, float] = {}
        for process in now.values():
            before = self._before.get(process.key)
            used = process.own - (before.own if before else 0)
            group = self._group(process)
            # Clock ticks of one process can go back by one or two on some kernels.
            ticks[group] = ticks.get(group, 0) + max(0, used)
        ended = self._ended_children(now)
        if busy_ticks is not None and ended:
            room = max(0.0, busy_ticks - sum(ticks.values()))
            scale = min(1.0, room / sum(ended.values()))
            ended = {group: late * scale for group, late in ended.items()}
        for group, late in ended.items():
            ticks[group] = ticks.get(group, 0) + late
        return ticks

    def _ended_children(self, now: dict[tuple[int, int], Process]) -> dict[str, float]:
        """Return, by the parent's group, time of ended children that was not counted before."""
        grown: dict[int, float] = {}
        groups: dict[int, str] = {}
        for key, process in now.items():
            before = self._before.get(key)
            # Children of a process that is itself new ran since the last reading as well.
            delta = process.children - (before.children if before else 0)
            if delta > 0:
                grown[process.pid] = delta
                groups[process.pid] = self._group(process)
        by_pid = {process.pid: process for process in self._before.values()} if grown else {}
        for process in by_pid.values():
            if process.key not in now:
                heir = self._living_ancestor(process, by_pid, now)
                if heir in grown:
                    grown[heir] = max(0.0, grown[heir] - process.own - process.children)
        ended: dict[str, float] = {}
        for pid, used in grown.items():
            if used:
                ended[groups[pid]] = ended.get(groups[pid], 0) + used
        return ended

    @staticmethod
    def _living_ancestor(
        process: Process,
        by_pid: dict[int, Process],
        now: dict[tuple[int, int], Process],
    ) -> int:
        """Return the id of the nearest ancestor, as of the last reading, that still lives."""
        for _ in range(64):
            parent = by_pid.get(process.parent)
            if parent is None:
                return process.parent
            if parent.key in now:
                return parent.pid
            process = parent
        return 0
