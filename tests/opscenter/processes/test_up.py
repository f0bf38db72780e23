"""``manage.py up``, started for real: first start, restarts, hangs, stops and clear refusals."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.centre import (
    PROCESSES,
    ROOT,
    Centre,
    clean_environment,
    free_ports,
    is_running,
    wait_until,
)

pytestmark = pytest.mark.e2e

QUICK = {"OPSCENTER_HEARTBEAT_SECONDS": "2", "OPSCENTER_HEARTBEAT_LIMIT_SECONDS": "10"}


@pytest.fixture
def make_centre(tmp_path: Path) -> Iterator[Callable[..., Centre]]:
    made: list[Centre] = []

    def make(*options: str, **environment: str) -> Centre:
        centre = Centre(tmp_path / f"data{len(made)}", *options, **environment)
        made.append(centre)
        return centre

    yield make
    for centre in made:
        centre.close()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Centre]:
    centre = Centre(tmp_path_factory.mktemp("centre") / "data", "--no-local-agent", **QUICK)
    centre.start()
    centre.wait_until_ready()
    yield centre
    centre.close()


def test_the_first_start_makes_everything_and_the_second_keeps_it(make_centre):
    centre = make_centre("--no-local-agent")
    centre.start()
    centre.wait_for_line(rf"Ops Center is at {centre.url}/")
    where = centre.wait_for_line(r"sign in as admin with the password in (\S+)")[1]
    assert where == str(centre.data_dir / "admin_password")
    password = Path(where).read_text().strip()
    assert password not in centre.output  # a service manager keeps what is written here
    assert centre.get("/healthz") == (200, "ok\n")
    assert centre.interrupt() == 0
    assert centre.output.count("Ops Center is at") == 1

    kept = [centre.data_dir / name for name in ("secret_key", "hub_host_key", "admin_password")]
    before = [path.read_text() for path in kept]
    assert [path.stat().st_mode & 0o777 for path in kept] == [0o600] * 3
    assert centre.data_dir.stat().st_mode & 0o777 == 0o700

    centre.start()
    centre.wait_for_line("Ops Center is at")
    assert "password" not in centre.output
    assert password in before[2]
    assert [path.read_text() for path in kept] == before
    assert centre.interrupt() == 0


def test_lines_carry_the_name_of_their_process_and_no_colour_in_a_file(running):
    running.wait_for_line(r"^hub    \| ")
    assert all(re.match(r"^[a-z]+ +\| ", line) for line in running.lines)
    assert "\x1b" not in running.output


def test_no_secret_is_in_a_log_or_a_list_of_processes(make_centre):
    centre = make_centre(**QUICK, OPSCENTER_LOG_LEVEL="DEBUG")
    centre.start()
    centre.wait_until_ready()
    agent = centre.data_dir / "agent" / "enrolment.json"
    wait_until(agent.exists, "the local agent has joined")
    token = centre.manage("create_token", "test", "--user", "admin").stdout.strip()
    authorized = {"Authorization": f"Token {token}"}
    assert centre.get("/api/v1/clusters/", authorized)[0] == 200
    assert centre.get("/api/v1/clusters/", {"Authorization": f"Token {token}x"})[0] == 401
    children = {**centre.children(), "up": centre.process.pid}
    assert set(children) >= {*PROCESSES, "agent", "up"}
    commands = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children.values()]
    shown = centre.output + b"\n".join(commands).decode()
    secrets = [
        (centre.data_dir / name).read_text().strip() for name in ("secret_key", "admin_password")
    ]
    for secret in ("ocj_", "opc_", *secrets):
        assert secret not in shown, secret[:4]


def test_a_second_start_on_the_same_directory_is_refused(running):
    done = running.manage("up")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert f"in use by another `manage.py up` (process {running.process.pid})" in done.stderr


@pytest.mark.parametrize("name", PROCESSES)
def test_a_killed_process_comes_back(running, name):
    before = running.wait_for_children(*PROCESSES)
    os.kill(before[name], signal.SIGKILL)
    wait_until(
        lambda: running.children().get(name, before[name]) != before[name], f"another {name}"
    )
    running.wait_until_ready()
    after = running.children()
    assert {k: v for k, v in after.items() if k != name} == {
        k: v for k, v in before.items() if k != name
    }


@pytest.mark.parametrize("name", PROCESSES)
def test_a_process_that_hangs_is_restarted_and_no_other(running, name):
    running.wait_until_ready()
    before = running.wait_for_children(*PROCESSES)
    os.kill(before[name], signal.SIGSTOP)
    running.wait_for_line(rf"{name} hangs: no sign of life")
    wait_until(
        lambda: running.children().get(name, before[name]) != before[name], f"another {name}"
    )
    running.wait_until_ready()
    after = running.children()
    print(running.output)  # if others ended too, it says why
    assert {k: v for k, v in after.items() if k != name} == {
        k: v for k, v in before.items() if k != name
    }


def test_readiness_names_what_is_missing(running):
    running.wait_until_ready()
    beat = running.wait_for_children(*PROCESSES)["beat"]
    os.kill(beat, signal.SIGSTOP)
    _, body = wait_until(
        lambda: answer if (answer := running.get("/readyz"))[0] == 503 else None, "503"
    )
    assert '"beat"' in body
    running.wait_until_ready()


def test_nothing_outlives_a_killed_supervisor(make_centre):
    centre = make_centre("--no-local-agent")
    centre.start()
    children = centre.wait_for_children(*PROCESSES)
    centre.process.kill()
    centre.process.wait()
    wait_until(lambda: not any(map(is_running, children.values())), "all children are gone")

    centre.start()  # the lock and the sockets of the dead one are in nobody's way
    centre.wait_for_line("Ops Center is at")
    assert centre.interrupt() == 0


def test_a_stop_kills_what_does_not_end_by_itself(make_centre):
    centre = make_centre("--no-local-agent")
    centre.start()
    children = centre.wait_for_children(*PROCESSES)
    os.kill(children["hub"], signal.SIGSTOP)
    assert centre.interrupt() == 0
    assert not any(map(is_running, children.values()))


def up(**environment: str) -> subprocess.CompletedProcess[str]:
    return manage("up", **environment)


def manage(command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "manage.py"), command],
        env=clean_environment(**environment), capture_output=True, text=True, check=False,
        timeout=60,
    )  # fmt: skip


@pytest.mark.parametrize(
    "variable", ["OPSCENTER_PORT", "OPSCENTER_HUB_PORT", "OPSCENTER_HUB_WS_PORT"]
)
def test_a_port_in_use_is_one_line_with_the_variable_and_the_port(tmp_path, variable):
    names = ("OPSCENTER_PORT", "OPSCENTER_HUB_PORT", "OPSCENTER_HUB_WS_PORT")
    ports = dict(zip(names, map(str, free_ports(3)), strict=True))
    with socket.create_server(("127.0.0.1", int(ports[variable]))):
        done = up(OPSCENTER_DATA_DIR=str(tmp_path), **ports)
    assert done.returncode == 2
    assert done.stderr == (
        f"manage.py up: {variable}: port {ports[variable]} on 127.0.0.1 is in use;"
        f" stop what uses it or set {variable} to another port\n"
    )


def test_a_database_that_cannot_be_used_is_one_line_that_names_the_directory(tmp_path):
    database = tmp_path / "opscenter.sqlite3"
    database.mkdir()  # as unusable as a full disk, and to be had without root
    names = ("OPSCENTER_PORT", "OPSCENTER_HUB_PORT", "OPSCENTER_HUB_WS_PORT")
    done = up(
        OPSCENTER_DATA_DIR=str(tmp_path), **dict(zip(names, map(str, free_ports(3)), strict=True))
    )
    assert done.returncode == 2
    assert done.stderr == (
        f"manage.py up: OPSCENTER_DATA_DIR: {database}: unable to open database file\n"
    )


def test_one_port_for_two_listeners_is_refused(tmp_path):
    (port,) = map(str, free_ports(1))
    done = up(OPSCENTER_DATA_DIR=str(tmp_path), OPSCENTER_PORT=port, OPSCENTER_HUB_PORT=port)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "OPSCENTER_HUB_PORT and OPSCENTER_PORT name the same port" in done.stderr


@pytest.mark.parametrize("command", ["up", "migrate", "check"])
@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OPSCENTER_PORT", "eighty"),
        ("OPSCENTER_PORT", "70000"),
        ("OPSCENTER_DEBUG", "perhaps"),
        ("OPSCENTER_LOG_LEVEL", "LOUD"),
        ("OPSCENTER_PUBLIC_URL", "ftp://example.org"),
        ("DATABASE_URL", "mysql://x"),
        ("OPSCENTER_SECRET_KEY_FILE", "/does/not/exist"),
        ("OPSCENTER_DATA_DIR", "/dev/null/data"),
    ],
)
def test_a_bad_value_is_one_line_that_names_the_variable(tmp_path, command, variable, value):
    done = manage(command, **{"OPSCENTER_DATA_DIR": str(tmp_path), variable: value})
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert variable in done.stderr


@pytest.mark.parametrize(
    ("variable", "value", "code"),
    [
        ("REDIS_URL", "redis://:secret@127.0.0.1:1/0", 75),
        ("REDIS_URL", "gopher://nowhere", 2),
        ("DATABASE_URL", "postgres://ops:secret@127.0.0.1:1/ops", 75),
        ("OPSCENTER_HOST", "no-such-host.invalid", 2),
    ],
)
def test_a_server_that_does_not_answer_is_one_line_without_its_password_and_worth_another_start(
    tmp_path, variable, value, code
):
    ports = dict(
        zip(
            ("OPSCENTER_PORT", "OPSCENTER_HUB_PORT", "OPSCENTER_HUB_WS_PORT"),
            map(str, free_ports(3)),
            strict=True,
        )
    )
    done = up(**{"OPSCENTER_DATA_DIR": str(tmp_path), **ports, variable: value})
    assert done.returncode == code
    assert done.stderr.count("\n") == 1
    assert variable in done.stderr
    assert "secret" not in done.stderr + done.stdout


def test_it_stops_in_time_when_nobody_reads_its_output_any_more(make_centre):
    centre = make_centre("--no-local-agent", **QUICK)
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "manage.py"), "up", *centre.options],
        env=centre.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    centre.process = process
    assert process.stdout is not None
    while b"Ops Center is at" not in process.stdout.readline():
        assert process.poll() is None
    process.stdout.close()
    os.kill(centre.wait_for_children("beat")["beat"], signal.SIGKILL)  # gives it lines to write
    centre.wait_until_ready()
    assert centre.interrupt() == 0
