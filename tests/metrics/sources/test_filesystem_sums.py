"""A node's sums over filesystems in tables of databases."""

from __future__ import annotations

from metrics.series.rows import Cell, SeriesKey
from metrics.sources.filesystem_sums import sum_filesystems
from metrics.sources.row_builder import SHIFT, Table, Value


def summed(
    values: dict[str, tuple[Value | None, Value | None]],
    devices: dict[str, tuple[str, str]] | None = None,
) -> tuple[Value | None, Value | None]:
    """Return used and capacity of a node whose filesystems have these, by name."""
    filesystems, nodes = Table("filesystem"), Table("node")
    for name, pair in values.items():
        code = 60 << SHIFT | filesystems.numbers[("n1", name)]
        for field, value in zip(("used", "cap"), pair, strict=True):
            if value is not None:
                filesystems.fields[field][code] = value
    known = {SeriesKey("filesystem", "n1", name): of for name, of in (devices or {}).items()}
    sum_filesystems(filesystems, nodes, known)
    code = 60 << SHIFT | nodes.numbers[("n1",)]
    return nodes.fields["fs_used"].get(code), nodes.fields["fs_cap"].get(code)


def test_where_only_devices_are_known_they_tell_what_is_the_nodes_own():
    values = {"/dev/sda1": (40, 100), "nas.example:/export": (10**6, 10**7)}
    assert summed({**values, "/dev/loop3": (7, 7), "nodefs": (1, 2)}) == (41, 102)


def test_datasets_of_one_pool_are_told_by_their_names():
    assert summed({"data/a": (8, 108), "data/b": (20, 120), "/dev/sda1": (1, 2)}) == (29, 130)


def test_devices_and_types_tell_more_than_names():
    values = {"/": (40, 100), "/mnt/s3": (1, 10**9), "/srv/img": (2, 3)}
    devices = {
        "/": ("vda1", "ext4"),
        "/mnt/s3": ("s3fs", "fuse.s3fs"),
        "/srv/img": ("loop7", "xfs"),
    }
    assert summed(values, devices) == (40, 100)


def test_one_bad_filesystem_spoils_no_sum():
    assert summed({"/": (40, 100), "/bad": (-5, 10), "/full": (11, 10)}) == (40, 100)
    assert summed({"/": (40, 100), "/lone": (5, None)}) == (45, 100)


def test_the_sum_of_a_pool_in_a_rollup_stands_for_as_many_minutes():
    five = {"data/a": (Cell(5, 40, 8, 8), Cell(5, 540, 108, 108)), "data/b": (20, None)}
    assert summed(five) == (Cell(5, 140, None, None), Cell(5, 640, None, None))
