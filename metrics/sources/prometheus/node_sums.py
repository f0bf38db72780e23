"""A node's sums over its filesystems and interfaces, by the rule of the agent. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple

from agent.own_parts import (
    Link,
    Usage,
    filesystem_identity,
    listed_filesystem,
    own_filesystem,
    own_interfaces,
    space_of,
    sum_of,
)
from metrics.series.catalog import FIELD_NAMES
from metrics.series.rows import Cell
from metrics.sources.bounds import fits
from metrics.sources.prometheus.responses import Cells, Labels
from metrics.sources.validation import clean_text

MAX_ATTR = 256
_FIELDS = ("used", "cap", "inodes_total", "inodes_free")
_PLACES = [FIELD_NAMES["filesystem"].index(name) for name in _FIELDS]


class Disk:
    """One mounted filesystem of one node.

    Attributes:
        columns: its values by minute, in the order of the catalogue.
        listed: whether it is one of the node's at all.
        own: whether it counts in its node's sums.
        identity: what is equal for all mounts of it.
        space: what is equal for all filesystems that share its space.
    """

    def __init__(self, labels: Labels, point: str, *, read_only: bool) -> None:
        self._device = clean_text(labels.get("device", "")[:MAX_ATTR], "device", MAX_ATTR)
        self._fstype = clean_text(labels.get("fstype", "")[:MAX_ATTR], "fstype", MAX_ATTR)
        self._read_only = read_only
        self.columns: list[Cells | None] = [None] * len(FIELD_NAMES["filesystem"])
        self.listed = listed_filesystem(point, self._device, self._fstype)
        self.own = own_filesystem(point, self._device, self._fstype)
        self.identity = filesystem_identity(point, self._device, self._fstype)
        self.space = space_of(self._device, self._fstype) or point

    def attrs(self) -> dict[str, str]:
        """Return its attributes for display and for judging it."""
        attrs = {"device": self._device, "fstype": self._fstype}
        return {**attrs, "ro": "1"} if self._read_only else attrs

    def usage(self, minute: int) -> tuple[str, str, Usage]:
        """Return device, type and usage at a position of the columns."""
        cells = [column[minute] if column is not None else None for column in self._in_order()]
        usage = Usage(*(None if cell is None else cell.total for cell in cells))
        return self._device, self._fstype, usage

    def believable(self) -> list[Cells | None]:
        """Return used, cap and inodes without the minutes in which their numbers cannot be."""
        used, cap, total, free = self._in_order()
        used, cap = _without_impossible(used, cap)
        free, total = _without_impossible(free, total)
        return [used, cap, total, free]

    def _in_order(self) -> list[Cells | None]:
        return [self.columns[place] for place in _PLACES]


def sums_of_disks(disks: Iterable[Disk], minutes: int) -> dict[str, Cells | None]:
    """Return the columns ``fs_used``, ``fs_cap`` and ``inodes_*`` of one node.

    Args:
        disks: its filesystems, each once; those that are not its own are left out.
        minutes: length of the columns.
    """
    spaces: dict[str, list[Disk]] = {}
    for disk in disks:
        if disk.own:
            spaces.setdefault(disk.space, []).append(disk)
    sums: list[Cells | None] = [None] * len(_FIELDS)
    for sharing in spaces.values():
        alone = len(sharing) == 1
        parts = sharing[0].believable() if alone else _of_one_space(sharing, minutes)
        sums = [_sum(one, other) for one, other in zip(sums, parts, strict=True)]
    names = ("fs_used", "fs_cap", "inodes_total", "inodes_free")
    return dict(zip(names, sums, strict=True))


def sum_of_interfaces(rates: Mapping[str, Cells], links: Mapping[str, Link]) -> Cells | None:
    """Return one node's rate over its own interfaces.

    Args:
        rates: by interface; below zero in minutes in which its counter was reset: the sum without
            it would be a lie, and is None.
        links: what is known of the interfaces.

    Returns:
        The column; None if no interface is the node's own.
    """
    own = own_interfaces(rates, links)
    columns = [cells for name, cells in rates.items() if name in own]
    if not columns:
        return None
    return [_rate(cells) for cells in zip(*columns, strict=True)]


def _rate(cells: Sequence[Cell | None]) -> Cell | None:
    known = [cell.total for cell in cells if cell is not None]
    return _flat(sum(known)) if known and min(known) >= 0 else None


def _of_one_space(disks: Sequence[Disk], minutes: int) -> list[Cells | None]:
    found = [astuple(sum_of(disk.usage(at) for disk in disks)) for at in range(minutes)]
    return [
        [None if value is None else _flat(value) for value in column]
        for column in zip(*found, strict=True)
    ] or [None] * len(_FIELDS)


def _without_impossible(
    part: Cells | None, whole: Cells | None
) -> tuple[Cells | None, Cells | None]:
    """Return both without the minutes in which the part cannot be one of the whole."""
    length = len(part or whole or ())
    parts, wholes = part or [None] * length, whole or [None] * length
    bad = {
        at
        for at, (one, all_) in enumerate(zip(parts, wholes, strict=True))
        if not fits(one and one.total, all_ and all_.total)
    }
    if not bad:
        return part, whole
    return _without(part, bad), _without(whole, bad)


def _without(cells: Cells | None, bad: set[int]) -> Cells | None:
    if cells is None:
        return None
    return [None if at in bad else cell for at, cell in enumerate(cells)]


def _sum(one: Cells | None, other: Cells | None) -> Cells | None:
    if one is None or other is None:
        return other if one is None else one
    return [
        b if a is None else a if b is None else _flat(a.total + b.total)
        for a, b in zip(one, other, strict=True)
    ]


def _flat(value: int) -> Cell:
    return Cell(1, value, value, value)
