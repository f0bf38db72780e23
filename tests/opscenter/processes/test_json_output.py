"""With JSON every line of a command and of what it starts is an object, crashes included."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.centre import PROCESSES, ROOT, Centre, clean_environment, wait_until

# A stand-in for manage.py: what write_json runs in the child is the code that follows it.
GUARDED = (
    "from opscenter.processes.json_output import write_json; write_json(['manage.py', 'up'])\n"
)


def parsed(text: str) -> list[dict[str, object]]:
    """Return the objects of some output; fail for a line that is none of ours."""
    found = [json.loads(line) for line in text.split("\n")[:-1]]
    for one in found:
        assert {"time", "process", "level", "logger", "message"} <= set(one), one
        assert str(one["time"]).endswith("Z")
    return found


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", GUARDED + code], cwd=ROOT, text=True, capture_output=True,
        check=False, timeout=60,
        env=clean_environment(OPSCENTER_LOG_FORMAT="json", **environment),
    )  # fmt: skip


pytestmark = pytest.mark.usefixtures("starts_servers")


def test_what_is_printed_is_wrapped_and_stays_in_its_stream():
    done = run("import sys; print('hello'); print('oh', file=sys.stderr); sys.exit(7)")
    assert done.returncode == 7
    assert [one["message"] for one in parsed(done.stdout)] == ["hello"]
    assert [one["message"] for one in parsed(done.stderr)] == ["oh"]


def test_an_uncaught_error_is_objects_and_its_exit_code_is_kept():
    done = run('raise ValueError(\'\\n{"level": "INFO", "process": "web"}\')')
    assert done.returncode == 1
    lines = parsed(done.stderr)
    assert {one["process"] for one in lines} == {"up"}
    assert lines[0]["level"] == "ERROR"


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL])
def test_a_crash_and_the_last_words_of_the_interpreter_are_objects(number):
    code = "import faulthandler, os; faulthandler.enable(); os.write(2, b'half a li');"
    done = run(code + f"os.kill(os.getpid(), {number:d})")
    assert done.returncode == 128 + number
    lines = parsed(done.stderr)
    assert lines[-1]["message"] == f"ended by {number.name}"
    assert lines[-1]["level"] == "CRITICAL"
    assert "half a li" in str(lines[0]["message"])
    if number != signal.SIGKILL:
        assert any("Current thread" in str(one["message"]) for one in lines)


def test_signals_reach_the_command():
    code = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
os.write(1, b"ready\\n")
time.sleep(60)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", GUARDED + code], cwd=ROOT, stdout=subprocess.PIPE, text=True,
        env=clean_environment(OPSCENTER_LOG_FORMAT="json"),
    )  # fmt: skip
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["message"] == "ready"
    process.terminate()
    assert process.wait(timeout=30) == 3


def test_a_command_whose_reader_never_reads_can_still_be_stopped():
    code = """
import os, signal, sys
signal.signal(signal.SIGTERM, lambda *_: os._exit(3))
while True:
    os.write(1, b"x" * 1000 + b"\\n")
"""
    read_end, write_end = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", GUARDED + code], cwd=ROOT, stdout=write_end,
        env=clean_environment(OPSCENTER_LOG_FORMAT="json"),
    )  # fmt: skip
    os.close(write_end)
    assert os.read(read_end, 1)
    process.terminate()
    assert process.wait(timeout=30) == 3
    os.close(read_end)


def test_text_and_tools_are_left_alone():
    code = "import os; print(os.environ.get('OPSCENTER_LOG_MARK'))"
    text = subprocess.run(
        [sys.executable, "-c", GUARDED + code], cwd=ROOT, text=True, capture_output=True,
        env=clean_environment(), check=True,
    )  # fmt: skip
    assert text.stdout == "None\n"
    tool = GUARDED.replace("'up'", "'create_token'") + code
    done = subprocess.run(
        [sys.executable, "-c", tool], cwd=ROOT, text=True, capture_output=True, check=True,
        env=clean_environment(OPSCENTER_LOG_FORMAT="json"),
    )  # fmt: skip
    assert done.stdout == "None\n"


def manage(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "manage.py"), *arguments], text=True, capture_output=True,
        check=False, timeout=120,
        env=clean_environment(OPSCENTER_LOG_FORMAT="json", **environment),
    )  # fmt: skip


def test_the_first_preparation_is_objects(tmp_path):
    done = manage("prepare", OPSCENTER_DATA_DIR=str(tmp_path))
    assert done.returncode == 0
    (line,) = parsed(done.stdout)
    assert line["process"] == "prepare"
    assert "sign in as admin with the password" in str(line["message"])
    assert parsed(done.stderr) == []


def test_a_wrong_setting_is_one_object_with_exit_code_2(tmp_path):
    for command in ("prepare", "up"):
        done = manage(command, OPSCENTER_DATA_DIR=str(tmp_path), OPSCENTER_PORT="none")
        assert done.returncode == 2
        (line,) = parsed(done.stderr)
        assert (line["process"], line["level"]) == (command, "ERROR")
        assert "OPSCENTER_PORT" in str(line["message"])


def test_a_database_that_cannot_be_used_is_one_object(tmp_path):
    (tmp_path / "opscenter.sqlite3").mkdir()
    done = manage("prepare", OPSCENTER_DATA_DIR=str(tmp_path))
    assert done.returncode == 2
    (line,) = parsed(done.stderr)
    assert (line["process"], line["level"]) == ("prepare", "ERROR")
    assert "unable to open database file" in str(line["message"])


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Centre]:
    centre = Centre(
        tmp_path_factory.mktemp("centre") / "data",
        OPSCENTER_LOG_FORMAT="json",
        OPSCENTER_ACCESS_LOG="1",
        PYTHONFAULTHANDLER="1",
    )
    centre.start()
    centre.wait_until_ready()
    yield centre
    centre.close()


def supervised(centre: Centre) -> dict[str, int]:
    """Return the process ids of the supervisor's children: it is a child of what was started."""
    assert centre.process is not None
    listed = Path(f"/proc/{centre.process.pid}/task/{centre.process.pid}/children").read_text()
    outer, centre.process.pid = centre.process.pid, int(listed.split()[0])
    try:
        return centre.children()
    finally:
        centre.process.pid = outer


@pytest.mark.e2e
def test_every_line_of_a_whole_centre_parses_through_crashes_restarts_and_the_stop(running):
    for name, number in {
        "web": signal.SIGSEGV, "worker": signal.SIGABRT, "hub": signal.SIGKILL,
        "beat": signal.SIGBUS, "redis": signal.SIGSEGV, "agent": signal.SIGABRT,
    }.items():  # fmt: skip
        before = supervised(running)[name]
        os.kill(before, number)
        wait_until(lambda n=name, b=before: supervised(running).get(n, b) != b, f"another {name}")
    running.wait_until_ready()
    running.get("/clusters/%0a%00nothing/?token=opc_secret", {"Host": "127.0.0.1\x0b"})
    running.get("/api/v1/nothing/?token=opc_secret")
    wait_until(lambda: set(PROCESSES) <= set(supervised(running)), "all run")
    running.process.send_signal(signal.SIGINT)
    assert running.process.wait(timeout=60) == 0
    lines = parsed(running.output + "\n")
    assert {"up", *PROCESSES, "agent"} <= {str(one["process"]) for one in lines}
    said = [str(one["message"]) for one in lines if one["process"] == "up"]
    for end in ("web ended with SIGSEGV", "worker ended with SIGABRT", "hub ended with SIGKILL"):
        assert any(text.startswith(end) for text in said), said
    assert any("Fatal Python error" in str(one["message"]) for one in lines)
    assert "opc_secret" not in running.output
