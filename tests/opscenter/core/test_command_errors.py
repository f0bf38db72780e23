"""The one line with which a command ends when a person has to change something."""

from __future__ import annotations

from django.db import OperationalError

from opscenter.core import disk
from opscenter.core.command_errors import one_line_reason


def test_a_start_on_a_full_disk_says_that_the_disk_is_full(settings, tmp_path, monkeypatch):
    settings.DATA_DIR = tmp_path
    monkeypatch.setattr(disk, "NEEDED_BYTES", 10**18)
    assert one_line_reason(OperationalError("disk I/O error")) == (
        f"OPSCENTER_DATA_DIR: the disk of {tmp_path} is full: free some space (disk I/O error)"
    )


def test_another_error_is_not_called_a_full_disk(settings, tmp_path):
    settings.DATA_DIR = tmp_path
    assert "full" not in one_line_reason(OperationalError("disk I/O error"))
