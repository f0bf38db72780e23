"""Room on a disk."""

from __future__ import annotations

import os

import pytest

from opscenter.core import disk


def test_a_directory_with_room_is_not_full_and_takes_a_file(tmp_path):
    assert disk.free_bytes(tmp_path) > disk.NEEDED_BYTES
    assert not disk.is_full(tmp_path)
    disk.prove_space(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_that_gives_no_blocks_is_full():
    with pytest.raises(OSError, match=r"No space|Operation not|No such|Read-only|Permission"):
        disk.prove_space(disk.Path("/proc"))
    assert disk.is_full(disk.Path("/proc"))


def test_a_directory_that_is_gone_is_not_called_full(tmp_path):
    assert not disk.is_full(tmp_path / "gone")


def test_a_disk_without_free_inodes_has_no_room(tmp_path, monkeypatch):
    real = os.statvfs(tmp_path)
    values = list(real)
    values[7] = 0  # f_favail
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result(values))
    assert disk.free_bytes(tmp_path) == 0
