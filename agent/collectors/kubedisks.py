"""The two filesystems of a kubelet, its own and the one for images, which are often one disk."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from agent.collectors.kubefields import child, number, timestamp, total
from agent.samples import Sample, make_sample

_TOTALS = {
    "fs_used": "used",
    "fs_cap": "cap",
    "inodes_total": "inodes_total",
    "inodes_free": "inodes_free",
}
_SAME_SIZE = 0.001
_BYTES_A_SECOND = 2**30
_INODES_A_SECOND = 10_000
_LARGEST_CHANGE = 0.1
"""Share of a disk; free space that differs by more is that of two disks, however far apart."""
_READINGS_TO_BE_SURE = 4

Disk = dict[str, float | None]


@dataclass(slots=True)
class _Verdict:
    """Whether a node's two filesystems are one disk; ``apart``: readings in a row against it."""

    size: float | None
    is_one: bool
    apart: int


class NodeDisks:
    """Reads each node's filesystems, and remembers which nodes have two disks.

    The kubelet does not say whether both are on one disk, and reads them seconds apart. They are on
    one if they have the same size and their free space differs by no more than what can be written
    in between. Two disks of one size may be filled alike for a while, and much may be deleted
    between two readings of one: so a verdict stays, until four readings in a row say that there are
    two; that stays as long as the sizes do.
    """

    def __init__(self) -> None:
        self._verdicts: dict[str, _Verdict] = {}

    def read(self, node: str, summary: Mapping[str, Any]) -> tuple[list[Sample], Disk]:
        """Return the samples of a node's filesystems, and the node's sums, each disk once.

        A filesystem whose numbers contradict each other has none, and is in no sum.
        """
        found = {
            "nodefs": child(summary, "node", "fs"),
            "imagefs": child(summary, "node", "runtime", "imageFs"),
        }
        stats = {name: one for name, one in found.items() if isinstance(one, Mapping) and one}
        disks = {name: _numbers(one) for name, one in stats.items()}
        shared = len(disks) == 2 and self._is_one(node, stats["nodefs"], stats["imagefs"])
        samples = [
            make_sample(
                "filesystem",
                name,
                disk,
                ns=node,
                attrs={"shares": "nodefs"} if shared and name == "imagefs" else {},
            )
            for name, disk in disks.items()
        ]
        if shared:
            # If the node's own cannot be used, the other one says how large the disk is, but not
            # what is used: it counts images only.
            del disks["imagefs"]
        return samples, {
            field: total(disk[name] for disk in disks.values()) for field, name in _TOTALS.items()
        }

    def keep_only(self, nodes: Iterable[str]) -> None:
        """Forget nodes that are gone."""
        for node in self._verdicts.keys() - set(nodes):
            del self._verdicts[node]

    def _is_one(self, node: str, nodefs: Mapping[str, Any], imagefs: Mapping[str, Any]) -> bool:
        if not _alike(nodefs, imagefs, "capacityBytes") or not _alike(nodefs, imagefs, "inodes"):
            self._verdicts.pop(node, None)
            return False
        size = number(nodefs, "capacityBytes")
        now = _free_alike(nodefs, imagefs)
        verdict = self._verdicts.get(node)
        if verdict is None or verdict.size != size:
            verdict = self._verdicts[node] = _Verdict(size, is_one=now, apart=0)
        if verdict.apart < _READINGS_TO_BE_SURE:
            verdict.apart = 0 if now else verdict.apart + 1
            verdict.is_one = now or (verdict.is_one and verdict.apart < _READINGS_TO_BE_SURE)
        return verdict.is_one


def _alike(one: Mapping[str, Any], other: Mapping[str, Any], name: str) -> bool:
    """Return whether a size is the same; some filesystems work theirs out from what is free."""
    here, there = number(one, name), number(other, name)
    if here is None or there is None:
        return here is there
    return abs(here - there) <= _SAME_SIZE * max(here, there)


def _free_alike(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Return whether the free space of both may be that of one disk, by when each was read."""
    times = timestamp(child(one, "time")), timestamp(child(other, "time"))
    seconds = 15.0 if None in times else abs((times[0] or 0) - (times[1] or 0))
    for free, size, per_second in (
        ("availableBytes", "capacityBytes", _BYTES_A_SECOND),
        ("inodesFree", "inodes", _INODES_A_SECOND),
    ):
        here, there, whole = number(one, free), number(other, free), number(one, size)
        if here is None or there is None or whole is None:
            continue
        # Times are whole seconds, so that each may be one later.
        if abs(here - there) > min(_LARGEST_CHANGE * whole, (seconds + 2) * per_second):
            return False
    return True


def _numbers(stats: Mapping[str, Any]) -> Disk:
    """Return a filesystem's numbers; pairs of which one is absent or impossible are None."""
    cap, used = number(stats, "capacityBytes"), number(stats, "usedBytes")
    inodes, free = number(stats, "inodes"), number(stats, "inodesFree")
    bytes_good = cap is not None and used is not None and 0 <= used <= cap and cap > 0
    inodes_good = inodes is not None and free is not None and 0 <= free <= inodes and inodes > 0
    return {
        "used": used if bytes_good else None,
        "cap": cap if bytes_good else None,
        "inodes_total": inodes if inodes_good else None,
        "inodes_free": free if inodes_good else None,
    }
