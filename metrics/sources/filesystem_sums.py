"""A node's sums over its filesystems, for databases that answer by field. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple
from types import MappingProxyType

from agent.own_parts import Usage, own_filesystem, space_of, sum_of
from metrics.series.rows import Cell, SeriesKey
from metrics.sources.bounds import fits
from metrics.sources.row_builder import MASK, SHIFT, Table, Value, as_cell

Devices = Mapping[SeriesKey, tuple[str, str]]
"""Device and type of filesystems; of one that is not in it the name is all that is known."""

_SUMS = {
    "fs_used": "used",
    "fs_cap": "cap",
    "inodes_total": "inodes_total",
    "inodes_free": "inodes_free",
}


def sum_filesystems(
    filesystems: Table, nodes: Table, devices: Devices = MappingProxyType({})
) -> None:
    """Set the totals of each node's own filesystems.

    One whose numbers cannot be is left out for that minute, so that it spoils no sum. One with 0
    inodes does not count them (statfs(2) of btrfs), and has none.
    """
    inodes = filesystems.fields["inodes_total"]
    for code in [code for code, total in inodes.items() if _mean(total) == 0]:
        del inodes[code]
        filesystems.fields["inodes_free"].pop(code, None)
    alone: dict[int, int] = {}  # the number of a filesystem that shares its space with none: node's
    for (host, _), numbers in _spaces(filesystems, devices).items():
        node = nodes.numbers[(host,)]
        if len(numbers) == 1:
            alone[numbers[0]] = node
        else:
            _sum_space(filesystems, numbers, devices, nodes, node)
    bad = _impossible(filesystems, "used", "cap")
    bad_inodes = bad | _impossible(filesystems, "inodes_free", "inodes_total")
    for name, part in _SUMS.items():
        left_out = bad_inodes if part.startswith("inodes") else bad
        for code, value in filesystems.fields[part].items():
            number = alone.get(code & MASK)
            if number is not None and code not in left_out:
                _add(nodes.fields[name], (code >> SHIFT) << SHIFT | number, value)


def _spaces(filesystems: Table, devices: Devices) -> dict[tuple[str, str], list[int]]:
    """Return the numbers of nodes' own filesystems by node and by the space that they share."""
    spaces: dict[tuple[str, str], list[int]] = {}
    for number, key in enumerate(filesystems.keys):
        device, fstype = devices.get(key, (key.name, ""))
        if own_filesystem(key.name, device, fstype):
            spaces.setdefault((key.ns, space_of(device, fstype)), []).append(number)
    return spaces


def _impossible(filesystems: Table, part: str, whole: str) -> set[int]:
    wholes = filesystems.fields[whole]
    return {
        code
        for code, value in filesystems.fields[part].items()
        if not fits(_mean(value), _mean(wholes.get(code)))
    }


def _sum_space(
    filesystems: Table, numbers: Sequence[int], devices: Devices, nodes: Table, node: int
) -> None:
    """Add filesystems that share their free space."""
    columns = [filesystems.fields[part] for part in _SUMS.values()]
    wanted = set(numbers)
    times = {code >> SHIFT for column in columns for code in column if code & MASK in wanted}
    for time in times:
        usages = []
        spans = [1]
        for number in numbers:
            key = filesystems.keys[number]
            values = [column.get(time << SHIFT | number) for column in columns]
            spans += [value.n for value in values if isinstance(value, Cell)]
            usages.append((*devices.get(key, (key.name, "")), Usage(*map(_mean, values))))
        for name, total in zip(_SUMS, astuple(sum_of(usages)), strict=True):
            if total is not None:
                n = max(spans)
                value = total if n == 1 else Cell(n, total * n, None, None)
                _add(nodes.fields[name], time << SHIFT | node, value)


def _mean(value: Value | None) -> int | None:
    if value is None or isinstance(value, int):
        return value
    return _per(value, 1)


def _add(column: dict[int, Value], code: int, value: Value) -> None:
    old = column.get(code)
    column[code] = value if old is None else _added(old, value)


def _added(one: Value, other: Value) -> Value:
    """Add two gauges over the same time span, each of ``n`` minutes or samples."""
    if isinstance(one, int) and isinstance(other, int):
        return one + other
    one, other = as_cell(one), as_cell(other)
    n = min(one.n, other.n)
    low = None if one.low is None or other.low is None else one.low + other.low
    high = None if one.high is None or other.high is None else one.high + other.high
    return Cell(n, _per(one, n) + _per(other, n), low, high)


def _per(cell: Cell, n: int) -> int:
    return cell.total if cell.n == n else (2 * cell.total * n + cell.n) // (2 * cell.n)
