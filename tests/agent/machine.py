"""A machine made of files: ``/proc`` and a cgroup tree that a test sets between two readings."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from agent.catalog import FIELDS
from agent.collectors.filesystems import Filesystems
from agent.collectors.host import HostCollector

GIB = 2**30
ROOT_MOUNT = "27 1 254:0 / / rw,relatime - ext4 /dev/vda1 rw\n"
NET_HEADER = (
    "Inter-|   Receive                                                |  Transmit\n"
    " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs\n"
)


def disk(
    *, blocks: int, free: int, available: int, files: int = 1000, files_free: int = 900
) -> os.statvfs_result:
    """Return a statvfs answer with blocks of 4 KiB."""
    return os.statvfs_result(
        (4096, 4096, blocks, free, available, files, files_free, files_free, 0, 255)
    )


class FakeMachine:
    """Two CPUs, 8 GiB, one disk, one network card, and the processes that a test starts."""

    def __init__(self, root: Path) -> None:
        self.proc = root / "proc"
        self.cgroup = root / "cgroup"
        self.etc = root / "etc"
        self.sys = root / "sys" / "class" / "net"
        for path in (self.proc / "net", self.proc / "self", self.cgroup, self.etc):
            path.mkdir(parents=True)
        self.now = 5000.0
        self.disks: dict[str, os.statvfs_result | OSError | None] = {
            "/": disk(blocks=25_000, free=15_000, available=13_000)
        }
        self.write("meminfo", "MemTotal: 8388608 kB\nMemFree: 100 kB\nMemAvailable: 6291456 kB\n")
        self.write("loadavg", "1.25 0.90 0.50 2/345 6789\n")
        self.write("uptime", "86400.25 170000.10\n")
        self.write("self/mountinfo", ROOT_MOUNT)
        self.cpu()
        self.net(eth0=(0, 0))
        (self.etc / "os-release").write_text('NAME="X"\nPRETTY_NAME="Debian GNU/Linux 12"\n')

    def write(self, name: str, text: str) -> None:
        path = self.proc / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def cpu(self, *, user=1000, nice=0, system=500, idle=9000, iowait=100, steal=0, guest=0):
        line = f"{user} {nice} {system} {idle} {iowait} 7 3 {steal} {guest} 0"
        self.write("stat", f"cpu  {line}\ncpu0 {line}\ncpu1 {line}\nintr 5 0\nbtime 1\n")

    def net(self, **interfaces: tuple[int, int]) -> None:
        lines = (
            f"{name:>6}: {rx} 1 0 0 0 0 0 0 {tx} 1 0 0 0 0 0 0\n"
            for name, (rx, tx) in interfaces.items()
        )
        self.write("net/dev", NET_HEADER + "".join(lines))

    def link(self, name: str, *, device=True, address="", master="", lower=()) -> None:
        """Make what /sys/class/net says of an interface."""
        directory = self.sys / name
        directory.mkdir(parents=True)
        (directory / "address").write_text(f"{address}\n")
        if device:
            (directory / "device").mkdir()
        if master:
            (directory / "master").symlink_to(f"../{master}")
        for one in lower:
            (directory / f"lower_{one}").symlink_to(f"../{one}")

    def process(
        self,
        pid: int,
        comm: str,
        *,
        cmdline: str = "",
        parent: int = 1,
        ticks: int = 0,
        children: int = 0,
        started: int = 100,
        resident: int = 100,
        shared: int = 40,
        flags: int = 0,
    ) -> None:
        fields = ["S", parent, pid, pid, 0, -1, flags, 0, 0, 0, 0, ticks, 0, children, 0, 20, 0]
        fields += [1, 0, started, 10**6, resident, *[0] * 20]
        self.write(f"{pid}/stat", f"{pid} ({comm}) {' '.join(map(str, fields))}\n")
        self.write(f"{pid}/statm", f"5000 {resident} {shared} 10 0 200 0\n")
        self.write(f"{pid}/cmdline", cmdline.replace(" ", "\0") + ("\0" if cmdline else ""))

    def end(self, pid: int) -> None:
        shutil.rmtree(self.proc / str(pid))

    def collector(self, **kwargs) -> HostCollector:
        def statvfs(point: str) -> os.statvfs_result | None:
            answer = self.disks.get(point)
            if isinstance(answer, OSError):
                raise answer
            return answer

        kwargs.setdefault(
            "filesystems", Filesystems(self.proc / "self" / "mountinfo", statvfs=statvfs)
        )
        return HostCollector(
            node_name="box",
            proc=self.proc,
            cgroup=self.cgroup,
            etc=self.etc,
            monotonic=lambda: self.now,
            ticks_per_second=100,
            page_bytes=4096,
            **kwargs,
        )


def rows(collected, kind):
    return {
        sample.name: dict(zip(FIELDS[kind], sample.values, strict=True))
        for sample in collected.samples
        if sample.kind == kind
    }


async def node(collector):
    return rows(await collector.collect(0), "node")["box"]


async def pods(collector):
    return rows(await collector.collect(0), "pod")
