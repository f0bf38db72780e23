"""A join token is in no list of processes, however it is given."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from agent.command_line import read_secret
from tests.agent.processes import agent

TOKEN = "ocj_a-secret-that-nobody-may-see"


def command_line(pid: int) -> str:
    """Return what any user of the machine reads of a process."""
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()


@pytest.mark.parametrize("form", [["--token", TOKEN], [f"--token={TOKEN}"]])
@pytest.mark.usefixtures("starts_servers")
async def test_a_token_among_the_arguments_is_overwritten(form, tmp_path, unused_port):
    url = f"http://127.0.0.1:{unused_port}"
    async with agent("run", "--url", url, *form, DATA_DIR=str(tmp_path / "data")) as process:
        await process.says("not joined yet")
        shown = command_line(process.process.pid)
        assert TOKEN not in shown
        assert "--token" in shown
        assert url in shown
        assert TOKEN not in process.output


@pytest.mark.usefixtures("starts_servers")
async def test_a_token_in_a_file_joins_and_is_in_no_argument(tmp_path, unused_port):
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    url = f"http://127.0.0.1:{unused_port}"
    options = ["--url", url, "--token-file", str(file)]
    async with agent("run", *options, DATA_DIR=str(tmp_path / "data")) as process:
        await process.says("not joined yet")
        assert TOKEN not in command_line(process.process.pid)


def test_standard_input_may_hold_the_token(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"  {TOKEN}\n"))
    assert read_secret("-") == TOKEN


def test_a_file_without_a_token_is_refused_in_one_line(tmp_path):
    (tmp_path / "empty").write_text(" \n")
    for path in (tmp_path / "absent", tmp_path / "empty", tmp_path):
        with pytest.raises(ValueError, match=f"--token-file: {path}"):
            read_secret(str(path))
