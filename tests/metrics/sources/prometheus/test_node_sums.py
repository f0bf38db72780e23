"""A node's sums over columns of filesystems and interfaces, minute by minute."""

from __future__ import annotations

from agent.own_parts import Link
from metrics.series.catalog import FIELD_NAMES
from metrics.series.rows import Cell
from metrics.sources.prometheus.node_sums import Disk, sum_of_interfaces, sums_of_disks
from metrics.sources.prometheus.responses import Cells


def cells(*values: int | None) -> Cells:
    return [None if value is None else Cell(1, value, value, value) for value in values]


def disk(device: str = "/dev/sda1", fstype: str = "ext4", **columns: Cells) -> Disk:
    made = Disk({"device": device, "fstype": fstype}, "/x", read_only=False)
    for name, column in columns.items():
        made.columns[FIELD_NAMES["filesystem"].index(name)] = column
    return made


def totals(*disks: Disk, minutes: int = 3) -> dict[str, list[int | None] | None]:
    return {
        name: None if column is None else [cell and cell.total for cell in column]
        for name, column in sums_of_disks(disks, minutes).items()
    }


def test_a_filesystem_is_left_out_only_in_minutes_in_which_its_numbers_cannot_be():
    one = disk(used=cells(40, 40, 40), cap=cells(100, 100, 100))
    other = disk("/dev/sdb1", used=cells(1, -5, 9), cap=cells(5, 5, 5))
    assert totals(one, other) == {
        "fs_used": [41, 40, 40],
        "fs_cap": [105, 100, 100],
        "inodes_total": None,
        "inodes_free": None,
    }


def test_datasets_of_one_pool_share_its_free_space_minute_by_minute():
    one = disk("data", "zfs", used=cells(8, 9, None), cap=cells(108, 104, None))
    other = disk("data/media", "zfs", used=cells(20, 20, 20), cap=cells(120, 115, 115))
    found = totals(one, other)
    assert found["fs_used"] == [28, 29, 20]
    assert found["fs_cap"] == [128, 124, 115]


def test_a_reset_of_one_own_interface_leaves_no_sum_and_one_of_another_no_trace():
    rates = {"eth0": cells(5, -1, None), "eth1": cells(2, 2, 2), "docker0": cells(-1, 9, 9)}
    assert sum_of_interfaces(rates, {}) == cells(7, None, 2)
    assert sum_of_interfaces(rates, {"eth0": Link(stacked=True)}) == cells(2, 2, 2)
    assert sum_of_interfaces({"lo": cells(1)}, {}) is None
