"""The data directory and its stand-in for sockets, against other users of the machine."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from opscenter.core import paths


@pytest.fixture
def temporary(tmp_path, monkeypatch) -> Path:
    place = tmp_path / "tmp"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    return place


@pytest.fixture
def long_path(tmp_path) -> Path:
    return tmp_path / ("d" * 120)


def test_sockets_are_in_the_data_directory_if_their_names_fit():
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        assert paths.runtime_directory(Path(short)) == Path(short) / "run"
        assert (Path(short) / "run").stat().st_mode & 0o777 == 0o700


def test_a_long_path_has_a_private_stand_in_that_every_process_finds(temporary, long_path):
    found = paths.runtime_directory(long_path)
    assert found.parent == temporary
    assert found.stat().st_mode & 0o777 == 0o700
    found.chmod(0o755)
    assert paths.runtime_directory(long_path) == found
    assert found.stat().st_mode & 0o777 == 0o700


def test_a_link_under_the_stand_ins_name_is_not_followed(temporary, long_path, tmp_path):
    name = paths.runtime_directory(long_path)
    name.rmdir()
    victim = tmp_path / "victim"
    victim.mkdir(mode=0o755)
    victim.chmod(0o755)
    name.symlink_to(victim)
    with pytest.raises(ImproperlyConfigured, match="set OPSCENTER_DATA_DIR to a shorter path"):
        paths.runtime_directory(long_path)
    assert victim.stat().st_mode & 0o777 == 0o755


def test_a_file_under_the_stand_ins_name_is_refused(temporary, long_path):
    name = paths.runtime_directory(long_path)
    name.rmdir()
    name.write_text("")
    with pytest.raises(ImproperlyConfigured, match="cannot be used"):
        paths.runtime_directory(long_path)


def test_a_directory_of_somebody_else_is_refused(temporary, long_path, tmp_path, monkeypatch):
    real = os.getuid()
    someone = real + 1
    monkeypatch.setattr(os, "getuid", lambda: someone)
    name = temporary / _stand_in_of(long_path, someone)
    name.mkdir()
    theirs = tmp_path / "data"
    theirs.mkdir()
    if real == 0:  # what root owns is trusted, so give it away
        os.chown(name, 12345, -1)
        os.chown(theirs, 12345, -1)
    with pytest.raises(ImproperlyConfigured, match="belongs to another user"):
        paths.runtime_directory(long_path)
    with pytest.raises(ImproperlyConfigured, match=r"OPSCENTER_DATA_DIR: .* another user"):
        paths.ensure_private_directory(theirs, "OPSCENTER_DATA_DIR")


def _stand_in_of(data_dir: Path, user: int) -> str:
    return f"opscenter-{user}-{hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:12]}"


def test_a_directory_that_everybody_shares_is_refused_and_stays_open(tmp_path):
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    with pytest.raises(ImproperlyConfigured, match=r"OPSCENTER_DATA_DIR: .* is everybody's"):
        paths.ensure_private_directory(shared, "OPSCENTER_DATA_DIR")
    assert shared.stat().st_mode & 0o7777 == 0o1777
