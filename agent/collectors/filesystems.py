"""Which mounted filesystems count, and how full they are.

Counted: everything that holds data, once per device. Not counted: kernel interfaces, memory
filesystems, read-only images, and the layers that container engines mount (overlay), except for
``/``, which is all that an agent in a container has.

``used`` and ``cap`` are what ``df`` shows: space reserved for root is neither used nor capacity.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from agent.collectors.base import CollectorError, DaemonCall
from agent.samples import Sample, make_sample

STATVFS_SECONDS = 2.0
"""Seconds that a filesystem may take to answer."""
MAX_FILESYSTEMS = 200

_PSEUDO = frozenset({
    "autofs", "aufs", "bdev", "binder", "binfmt_misc", "bpf", "cgroup", "cgroup2", "configfs",
    "cpuset", "debugfs", "devfs", "devpts", "devtmpfs", "efivarfs", "erofs",
    "fuse.gvfsd-fuse", "fuse.lxcfs", "fuse.portal", "fuse.snapfuse", "fusectl", "hugetlbfs",
    "iso9660",
    "mqueue", "none", "nsfs", "overlay", "pipefs", "proc", "pstore", "ramfs", "resctrl",
    "rootfs", "rpc_pipefs", "securityfs", "selinuxfs", "smackfs", "sockfs", "squashfs",
    "sysfs", "tmpfs", "tracefs",
})  # fmt: skip
_NETWORK = frozenset({
    "9p", "afs", "beegfs", "ceph", "cifs", "fuse.ceph", "fuse.cephfs", "fuse.glusterfs",
    "fuse.sshfs", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "smb3", "smbfs",
})  # fmt: skip
_OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of ``/proc/self/mountinfo``."""

    device: str  # major:minor
    root: str  # the part of the filesystem that is mounted; "/" for all of it
    point: str
    fstype: str
    source: str
    read_only: bool

    @property
    def network(self) -> bool:
        """Return whether the filesystem is on another machine."""
        return self.fstype in _NETWORK


@dataclass(frozen=True, slots=True)
class Usage:
    """What statvfs returned; inodes are None if the filesystem does not count them."""

    used: int
    cap: int
    inodes_total: int | None
    inodes_free: int | None


@dataclass(frozen=True, slots=True)
class FilesystemReading:
    """All filesystems' samples, and their sums for the node.

    Sums leave out network filesystems: many nodes share one, so it is no node's own space. They
    are None if nothing was summed.
    """

    samples: list[Sample]
    totals: dict[str, int | None]
    problems: dict[str, str]


def parse_mountinfo(text: str) -> list[Mount]:
    """Return every mount, in the kernel's order; lines that are no mount are skipped."""
    mounts = []
    for line in text.splitlines():
        left, _, right = line.partition(" - ")
        ids, kind = left.split(), right.split()
        if len(ids) < 6 or len(kind) < 2:
            continue
        mounts.append(
            Mount(
                device=ids[2],
                root=_unescape(ids[3]),
                point=_unescape(ids[4]),
                fstype=kind[0],
                source=_unescape(kind[1]),
                read_only="ro" in ids[5].split(","),
            )
        )
    return mounts


def choose(mounts: Iterable[Mount]) -> list[Mount]:
    """Return one mount for each filesystem that counts, ordered by mount point.

    Of several mounts of one device (bind mounts, btrfs subvolumes) the whole filesystem wins over
    a part of it, then the shortest path. A mount hidden by a later one on the same path is gone.
    """
    visible = {mount.point: mount for mount in mounts}
    chosen: dict[object, Mount] = {}
    for mount in sorted(visible.values(), key=lambda m: (m.root != "/", len(m.point), m.point)):
        overlaid_root = mount.point == "/" and mount.fstype in {"overlay", "aufs"}
        if mount.fstype in _PSEUDO and not overlaid_root:
            continue
        # A network filesystem mounted twice has two device numbers.
        chosen.setdefault(mount.source if mount.network else mount.device, mount)
    return sorted(chosen.values(), key=lambda m: m.point)[:MAX_FILESYSTEMS]


class Filesystems:
    """Reads the mount table and queries each filesystem, in its own thread.

    Args:
        mountinfo: path of the mount table.
        statvfs: like :func:`os.statvfs`, but returns None for what is no directory.
    """

    def __init__(
        self,
        mountinfo: Path,
        *,
        statvfs: Callable[[str], os.statvfs_result | None] | None = None,
        timeout: float = STATVFS_SECONDS,
    ) -> None:
        self._mountinfo = mountinfo
        self._statvfs = statvfs or _statvfs_of_directory
        self._timeout = timeout
        self._calls: dict[str, DaemonCall[os.statvfs_result | None]] = {}

    async def read(self, node: str) -> FilesystemReading:
        """Return all filesystems of this machine.

        One that does not answer in time is a row without values, and a problem; it is not queried
        again until its call returns.
        """
        try:
            table = self._mountinfo.read_text(encoding="utf-8", errors="surrogateescape")
        except OSError as exc:
            return FilesystemReading([], dict.fromkeys(_TOTALS), {"mounts": str(exc)})
        mounts = choose(parse_mountinfo(table))
        self._calls = {
            point: call
            for point, call in self._calls.items()
            if call.busy or any(mount.point == point for mount in mounts)
        }
        answers = await asyncio.gather(*(self._usage(mount) for mount in mounts))
        return _reading(node, list(zip(mounts, answers, strict=True)))

    async def _usage(self, mount: Mount) -> Usage | str | None:
        """Return the usage, or why there is none; None if it is no filesystem to report."""
        call = self._calls.get(mount.point)
        if call is None:
            call = self._calls[mount.point] = DaemonCall(f"statvfs {mount.point}")
        try:
            found = await call.run(lambda: self._statvfs(mount.point), timeout=self._timeout)
        except TimeoutError:
            return f"no answer within {self._timeout:g} s"
        except CollectorError:
            return "still no answer"
        except OSError as exc:
            return exc.strerror or str(exc)
        if found is None or not found.f_blocks:
            return None
        used = (found.f_blocks - found.f_bfree) * found.f_frsize
        return Usage(
            used=used,
            cap=used + found.f_bavail * found.f_frsize,
            # btrfs and others make inodes as they need them and report none.
            inodes_total=found.f_files or None,
            inodes_free=found.f_ffree if found.f_files else None,
        )


_TOTALS = ("fs_used", "fs_cap", "inodes_total", "inodes_free")


def _reading(node: str, answers: list[tuple[Mount, Usage | str | None]]) -> FilesystemReading:
    samples: list[Sample] = []
    problems: dict[str, str] = {}
    totals: dict[str, int | None] = dict.fromkeys(_TOTALS)
    # In a container, volumes and the overlay at / are often on the same disk.
    root = next((a for m, a in answers if m.point == "/" and m.fstype == "overlay"), None)
    for mount, answer in answers:
        if answer is None or (mount.point != "/" and _same_disk(answer, root)):
            continue
        values: dict[str, int | None] = {}
        attrs = {
            "device": mount.source,
            "fstype": mount.fstype,
            "read_only": "yes" if mount.read_only else "",
        }
        if isinstance(answer, str):
            problems[f"filesystem {mount.point}"] = answer
            attrs["problem"] = answer
        else:
            values = {
                "used": answer.used,
                "cap": answer.cap,
                "inodes_total": answer.inodes_total,
                "inodes_free": answer.inodes_free,
            }
            if not mount.network:
                _add(totals, values)
        samples.append(make_sample("filesystem", mount.point, values, ns=node, attrs=attrs))
    return FilesystemReading(samples, totals, problems)


def _same_disk(answer: Usage | str, root: Usage | str | None) -> bool:
    """Return whether a filesystem is the one below the overlay; its use changes all the time."""
    return (
        isinstance(answer, Usage)
        and isinstance(root, Usage)
        and (answer.cap, answer.inodes_total) == (root.cap, root.inodes_total)
    )


def _add(totals: dict[str, int | None], values: dict[str, int | None]) -> None:
    for total, name in zip(_TOTALS, ("used", "cap", "inodes_total", "inodes_free"), strict=True):
        value = values[name]
        if value is not None:
            totals[total] = (totals[total] or 0) + value


def _statvfs_of_directory(point: str) -> os.statvfs_result | None:
    # Container engines bind-mount single files, such as /etc/hosts, from the host's disk.
    return os.statvfs(point) if Path(point).is_dir() else None


def _unescape(text: str) -> str:
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), text)
