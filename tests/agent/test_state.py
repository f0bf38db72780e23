"""The data directory."""

from __future__ import annotations

import os
import subprocess
import sys

import asyncssh
import pytest

from agent import state
from agent.state import StateError, ensure_key, lock_data_dir, prepare_data_dir, read_enrolment


@pytest.mark.usefixtures("starts_servers")
def test_a_second_holder_is_refused_with_the_firsts_process_id(tmp_path):
    code = (
        "import sys,pathlib\n"
        "from agent.state import lock_data_dir\n"
        "with lock_data_dir(pathlib.Path(sys.argv[1])):\n"
        "    print('held', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"held\n"
        with (
            pytest.raises(StateError, match=f"process {holder.pid}\\) already uses"),
            lock_data_dir(tmp_path),
        ):
            pass
        holder.kill()
        holder.wait()
        with lock_data_dir(tmp_path):  # a killed one holds nothing
            pass


def test_a_key_of_another_kind_or_no_key_is_named(tmp_path):
    path = tmp_path / "agent.key"
    path.write_bytes(asyncssh.generate_private_key("ecdsa-sha2-nistp256").export_private_key())
    with pytest.raises(StateError, match="not ed25519"):
        ensure_key(tmp_path)
    path.write_text("nonsense")
    with pytest.raises(StateError, match=r"agent\.key holds no unencrypted private key"):
        ensure_key(tmp_path)


def test_a_damaged_enrolment_is_named(tmp_path):
    assert read_enrolment(tmp_path) is None
    for damage in (b"", b"{}", b"[]", b'{"cluster_id": "x"}'):
        (tmp_path / "enrolment.json").write_bytes(damage)
        with pytest.raises(StateError, match=r"enrolment\.json is damaged"):
            read_enrolment(tmp_path)


def test_a_crash_in_mid_write_leaves_the_old_file_whole(tmp_path, monkeypatch):
    path = tmp_path / "file"
    state.write_private(path, b"old")

    def crash(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(state.os, "fsync", crash)
    with pytest.raises(StateError, match="No space left"):
        state.write_private(path, b"new")
    assert path.read_bytes() == b"old"


def test_a_data_directory_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match="cannot be used"):
        prepare_data_dir(tmp_path / "file" / "below")


def test_a_data_directory_of_another_user_is_refused(tmp_path, monkeypatch):
    other = tmp_path / "other"
    other.mkdir()
    someone = os.getuid() or 1  # as root: a directory that root gave away
    if os.getuid() == 0:
        os.chown(other, someone, -1)
    else:
        monkeypatch.setattr(os, "getuid", lambda: someone + 1)
    with pytest.raises(StateError, match="belongs to another user"):
        prepare_data_dir(other)


def test_a_directory_that_everybody_shares_is_refused_and_stays_open(tmp_path):
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    with pytest.raises(StateError, match="is everybody's"):
        prepare_data_dir(shared)
    assert shared.stat().st_mode & 0o7777 == 0o1777
