"""What real child processes write reaches the log, and never holds them up."""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path

import pytest

from opscenter.processes.child import Child, Command
from opscenter.processes.output import JsonForm, LineWriter
from tests.centre import ROOT

pytestmark = pytest.mark.usefixtures("starts_servers")


async def lines_of(code: str, directory: Path, form: JsonForm, name: str = "redis") -> list[dict]:
    """Run a child; return what its supervisor writes of it, as objects."""
    found: list[str] = []

    def take(name: str, line: str, level: str | None = None) -> None:
        found.extend(form(name, line, level).splitlines())

    child = Child(name, directory=directory, write_line=take)
    await child.run(Command((sys.executable, "-c", code)))
    assert all(one.isascii() and len(one) < 65_536 for one in found)
    return [json.loads(one) for one in found if one]


async def test_hostile_output_is_objects_of_that_process_only(tmp_path):
    code = r"""
import os, signal
forged = b'{"time":"2026-03-01T12:00:00.000Z","process":"web","message":"all is well"}'
for line in (forged, b"\x1e" + forged, b"\x1eguess:" + forged, b"a\x1b[2J\x00\xff\xfe\r",
             b"x" * 1_000_000, b'{"level":', "\u2028\u202e".encode(), b"", b"   "):
    os.write(1, line)
    os.write(1, b"\n")
os.write(2, b"half a line")
os.kill(os.getpid(), signal.SIGKILL)
"""
    lines = await lines_of(code, tmp_path, JsonForm(children="5ec4e7"))
    assert len(lines) == 8
    assert {one["process"] for one in lines} == {"redis"}
    assert {one["level"] for one in lines} == {"WARNING"}
    assert "all is well" in lines[0]["message"]
    assert "characters left out)" in lines[4]["message"]
    assert lines[-1]["message"] == "half a line"


async def test_a_record_of_ours_keeps_its_fields_and_a_traceback_is_one_object(tmp_path):
    code = f"""
import logging.config, os, sys
sys.path.insert(0, {str(ROOT)!r})
os.environ.update(OPSCENTER_LOG_MARK="5ec4e7", OPSCENTER_PROCESS="worker")
from opscenter.core.logs import configure, logging_config
configure(logging_config("INFO", "json"))
import threading, warnings
logging.getLogger("a").warning("with %s", "a\\nbreak", extra={{"cluster": "c1"}})
warnings.warn("old")
print("raw", end="", flush=True)
threading.Thread(target=lambda: 1 / 0).start()
raise ValueError("the\\nend")
"""
    lines = await lines_of(code, tmp_path, JsonForm(children="5ec4e7"), "worker")
    said = {one["logger"]: one for one in lines}
    assert said["a"]["message"] == "with a\nbreak"
    assert said["a"]["cluster"] == "c1"
    assert "UserWarning: old" in said["py.warnings"]["message"]
    assert said["output"]["message"] == "raw"
    errors = [one["error"] for one in lines if one["logger"] == "uncaught"]
    assert len(errors) == 2
    assert any("ZeroDivisionError" in one for one in errors)
    assert any(one.endswith("ValueError: the\nend") for one in errors)
    assert len(lines) == 5


async def test_a_child_is_not_held_up_by_a_log_that_nobody_reads(tmp_path):
    reader, writer_end = os.pipe()
    writer = LineWriter(os.fdopen(writer_end, "w"), JsonForm(children=""))
    child = Child("hub", directory=tmp_path, write_line=writer)
    sent = 25_000  # 25 MB: more than pipes and buffer hold
    code = f"for number in range({sent}): print(number, 'x' * 1000)"
    assert await child.run(Command((sys.executable, "-c", code))) == 0  # nothing is read so far
    assert writer._held <= 8_001_000

    taken = bytearray()
    read = threading.Thread(
        target=lambda: [taken.extend(p) for p in iter(lambda: os.read(reader, 1 << 20), b"")]
    )
    read.start()
    writer.close(60)
    writer._stream.close()
    read.join()
    os.close(reader)
    lines = [json.loads(line) for line in taken.splitlines()]
    told = [one for one in lines if "were dropped: nobody read them" in one["message"]]
    assert len(told) == 1
    assert (told[0]["process"], told[0]["level"]) == ("up", "WARNING")
    assert len(lines) - 1 + int(told[0]["message"].split()[0]) == sent
