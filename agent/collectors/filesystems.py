"""How full the mounted filesystems are, each once.

:mod:`agent.own_parts` says which are listed and which count for the node. A layer that a container
engine mounts (overlay) is listed at ``/`` only, where it is all that an agent in a container has.
Layers into which nobody can write are an image (composefs), and are not listed there either.

``used`` and ``cap`` are what ``df`` shows: space reserved for root is neither used nor capacity.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from agent.collectors.base import CollectorError, DaemonCall
from agent.own_parts import (
    Usage,
    filesystem_identity,
    listed_filesystem,
    network_filesystem,
    own_filesystem,
    possible,
    sum_of,
)
from agent.samples import Sample, make_sample

STATVFS_SECONDS = 2.0
"""Seconds that a filesystem may take to answer."""
MAX_FILESYSTEMS = 200

_OVERLAYS = frozenset({"aufs", "overlay"})
_HOST_VIEWS = ("/host", "/hostfs", "/rootfs")  # where a container is given the machine's /
_ESCAPES = re.compile(r"(?:\\[0-7]{3})+")


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of ``/proc/self/mountinfo``."""

    device: str  # major:minor
    root: str  # the part of the filesystem that is mounted; "/" for all of it
    point: str
    fstype: str
    source: str
    read_only: bool
    is_image: bool = False

    @property
    def overlaid_root(self) -> bool:
        """Return whether it is the layers that a container has as its ``/``."""
        return self.point == "/" and self.fstype in _OVERLAYS and not self.is_image

    @property
    def identity(self) -> str:
        """Return what is equal for all mounts of one filesystem."""
        if network_filesystem(self.source, self.fstype):
            # Mounted twice it has two device numbers.
            return filesystem_identity(self.point, self.source, self.fstype)
        return self.device

    @property
    def space(self) -> str:
        """Return the device by which its space is told from others': of a pool, its name."""
        return self.source if self.fstype in {"apfs", "zfs"} else self.device


@dataclass(frozen=True, slots=True)
class FilesystemReading:
    """All filesystems' samples, and their sums for the node.

    Sums are over the node's own filesystems; they are None if nothing was summed.
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
                read_only=_read_only(_unescape(ids[4]), ids[5], kind[2:]),
                is_image=kind[0] == "overlay" and _has_no_upper_layer(kind[2:]),
            )
        )
    return mounts


def choose(mounts: Iterable[Mount]) -> list[Mount]:
    """Return one mount for each filesystem that counts, ordered by mount point.

    Of several mounts of one device (bind mounts, btrfs subvolumes) the whole filesystem wins over
    a part of it, then the shortest path. A mount hidden by a later one on the same path is gone.
    """
    visible = {mount.point: mount for mount in mounts}
    chosen: dict[str, Mount] = {}
    for mount in sorted(visible.values(), key=lambda m: (m.root != "/", len(m.point), m.point)):
        listed = listed_filesystem(mount.point, mount.source, mount.fstype)
        if listed or mount.overlaid_root:
            chosen.setdefault(mount.identity, mount)
    return sorted(chosen.values(), key=lambda m: m.point)


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
        found = choose(parse_mountinfo(table))
        mounts = found[:MAX_FILESYSTEMS]
        self._calls = {
            point: call
            for point, call in self._calls.items()
            if call.busy or any(mount.point == point for mount in mounts)
        }
        answers = await asyncio.gather(*(self._usage(mount) for mount in mounts))
        reading = _reading(node, list(zip(mounts, answers, strict=True)))
        if len(found) > len(mounts):
            reading.problems["filesystems"] = f"{len(mounts)} of {len(found)} are read"
        return reading

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
        free = max(found.f_bfree, found.f_bavail)
        if not possible(free, found.f_blocks):
            return "it reports more free than it has"
        # btrfs and others make inodes as they need them and report none.
        counted = found.f_files and possible(found.f_ffree, found.f_files)
        return Usage(
            used=used,
            cap=used + found.f_bavail * found.f_frsize,
            inodes_total=found.f_files if counted else None,
            inodes_free=found.f_ffree if counted else None,
        )


_TOTALS = ("fs_used", "fs_cap", "inodes_total", "inodes_free")


def _reading(node: str, answers: list[tuple[Mount, Usage | str | None]]) -> FilesystemReading:
    samples: list[Sample] = []
    problems: dict[str, str] = {}
    own: list[tuple[str, str, Usage]] = []
    # In a container, volumes and the overlay at / are often on the same disk.
    root = next((a for m, a in answers if m.point == "/" and m.fstype == "overlay"), None)
    for mount, answer in answers:
        if answer is None or (mount.point != "/" and _same_disk(answer, root)):
            continue
        if isinstance(answer, str):
            problems[f"filesystem {mount.point}"] = answer
        elif mount.overlaid_root or own_filesystem(mount.point, mount.source, mount.fstype):
            own.append((mount.space, mount.fstype, answer))
        samples.append(_sample(node, mount, answer))
    found = sum_of(own)
    sums = (found.used, found.cap, found.inodes_total, found.inodes_free)
    return FilesystemReading(samples, dict(zip(_TOTALS, sums, strict=True)), problems)


def _sample(node: str, mount: Mount, answer: Usage | str) -> Sample:
    problem = answer if isinstance(answer, str) else ""
    usage = Usage() if isinstance(answer, str) else answer
    return make_sample(
        "filesystem",
        mount.point,
        asdict(usage),
        ns=node,
        attrs={
            "device": mount.source,
            "fstype": mount.fstype,
            "ro": "1" if mount.read_only else "",
            "problem": problem,
        },
    )


def _same_disk(answer: Usage | str, root: Usage | str | None) -> bool:
    """Return whether a filesystem is the one below the overlay; its use changes all the time."""
    return (
        isinstance(answer, Usage)
        and isinstance(root, Usage)
        and (answer.cap, answer.inodes_total) == (root.cap, root.inodes_total)
    )


def _statvfs_of_directory(point: str) -> os.statvfs_result | None:
    # Container engines bind-mount single files, such as /etc/hosts, from the host's disk.
    return os.statvfs(point) if Path(point).is_dir() else None


def _read_only(point: str, options: str, more: list[str]) -> bool:
    """Return whether nothing can be written: by the mount's options or the filesystem's own.

    A view of the machine is given to a container read-only whatever is in it.
    """
    of_mount, of_filesystem = options.split(","), more[0].split(",") if more else []
    view = any(point == root or point.startswith(f"{root}/") for root in _HOST_VIEWS)
    return "ro" in of_filesystem or ("ro" in of_mount and not view)


def _has_no_upper_layer(options: list[str]) -> bool:
    """Return whether an overlay has none that can be written, by its filesystem's options."""
    names = {one.partition("=")[0].rstrip("+") for one in (options or [""])[0].split(",")}
    return "ro" in names and "lowerdir" in names and "upperdir" not in names


def _unescape(text: str) -> str:
    r"""Undo the kernel's escaping of bytes in names: ``\040`` is a blank."""

    def plain(match: re.Match[str]) -> str:
        escapes = match[0].split("\\")[1:]
        return bytes(int(octal, 8) & 0xFF for octal in escapes).decode("utf-8", "surrogateescape")

    return _ESCAPES.sub(plain, text)
