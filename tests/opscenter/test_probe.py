"""The health check of the containers: cheap, with the standard library only, and right."""

from __future__ import annotations

import ast
import http.server
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from django.conf import settings as django_settings

from clusters.tunnel.counters import HEARTBEAT_KEY
from opscenter import probe
from opscenter.core.heartbeats import heartbeat_key, redis_client, worker_names, write_heartbeat
from opscenter.core.paths import runtime_directory
from opscenter.probe import ProbeError, Target, names_of, problem_of, read_keys, target_of
from tests.centre import ROOT, clean_environment, free_ports, wait_until

PATH = ROOT / "opscenter" / "probe.py"


def target(redis_url: str = "", *, port: int = 1, workers: tuple[str, ...] = ("worker",)) -> Target:
    return Target("0.0.0.0", port, redis_url, 60, workers)


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run it as the containers do: without site-packages, in isolated mode."""
    return subprocess.run(
        [sys.executable, "-I", "-S", str(PATH), *arguments], cwd="/", text=True,
        capture_output=True, check=False, timeout=60, env=clean_environment(**environment),
    )  # fmt: skip


def test_it_imports_nothing_but_the_standard_library():
    tree = ast.parse(PATH.read_text())
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {one.name.split(".")[0] for one in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            names.add(str(node.module).split(".")[0])
    assert names - {"__future__"} <= sys.stdlib_module_names


@pytest.mark.usefixtures("starts_servers")
def test_nor_does_the_interpreter_load_anything_else_for_it():
    code = f"""
import runpy, sys
try:
    runpy.run_path({str(PATH)!r}, run_name="__main__")
except SystemExit:
    pass
print(*(name for name in sys.modules if name.split(".")[0] not in sys.stdlib_module_names
        and not name.startswith("__m")))
"""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, "web"], text=True, capture_output=True, check=True,
        env=clean_environment(OPSCENTER_PORT="1"),
    )  # fmt: skip
    assert done.stdout.split() == []


def test_without_settings_it_asks_where_the_centre_is(monkeypatch):
    environment = {"OPSCENTER_DATA_DIR": str(django_settings.DATA_DIR)}
    found = target_of(environment)
    assert (
        found.redis_url == f"unix://{runtime_directory(Path(django_settings.DATA_DIR))}/redis.sock"
    )
    assert (found.host, found.port) == (django_settings.WEB_HOST, django_settings.WEB_PORT)
    assert found.limit_seconds == django_settings.HEARTBEAT_LIMIT_SECONDS
    assert found.workers == worker_names()


def test_a_long_data_directory_has_its_sockets_where_the_centre_puts_them(tmp_path):
    long = tmp_path / ("x" * 90)
    assert target_of({"OPSCENTER_DATA_DIR": str(long)}).redis_url == (
        f"unix://{runtime_directory(long)}/redis.sock"
    )


def test_the_address_of_redis_may_be_in_a_file(tmp_path):
    (tmp_path / "url").write_text("redis://:secret@redis:6379/0\n")
    found = target_of({"REDIS_URL_FILE": str(tmp_path / "url")})
    assert found.redis_url == "redis://:secret@redis:6379/0"
    with pytest.raises(ProbeError, match="REDIS_URL_FILE"):
        target_of({"REDIS_URL_FILE": str(tmp_path / "none")})


def test_several_workers_are_asked_for_by_name(settings):
    settings.WORKER_PROCESSES = 3
    assert target_of({"OPSCENTER_WORKER_PROCESSES": "3"}).workers == worker_names()


def test_the_keys_are_those_that_the_processes_write():
    assert {heartbeat_key("hub"), HEARTBEAT_KEY} == {probe._HEARTBEAT + "hub"}


@pytest.mark.parametrize("name", ["hub", "worker", "beat"])
def test_a_process_is_well_while_its_heartbeat_is_young(redis_server, name):
    assert problem_of(name, target(redis_server)) == "no heartbeat yet"
    now = time.time()
    write_heartbeat(name, now=now)
    assert problem_of(name, target(redis_server), now + 60) == ""
    assert problem_of(name, target(redis_server), now + 61.4) == "no heartbeat for 61 s"
    assert problem_of(name, target(redis_server), now - 60) == "no heartbeat yet"


def test_of_several_workers_the_silent_ones_are_named(redis_server):
    write_heartbeat("worker-1")
    workers = ("worker-1", "worker-2", "worker-3")
    assert problem_of("worker", target(redis_server, workers=workers)) == (
        "worker-2: no heartbeat yet, worker-3: no heartbeat yet"
    )


def test_without_the_supervisor_that_asks_each_of_several_workers_none_is_blamed(redis_server):
    now = time.time()
    write_heartbeat("worker", now=now)
    write_heartbeat("worker-1", now=now)
    of_two = target(redis_server, workers=("worker-1", "worker-2"))
    unknown = "worker-2: not known without its supervisor"
    assert problem_of("worker", of_two, now) == unknown
    write_heartbeat("up", now=now - 31)
    assert problem_of("worker", of_two, now) == unknown
    write_heartbeat("up", now=now)
    assert problem_of("worker", of_two, now) == "worker-2: no heartbeat yet"


def test_what_is_no_time_proves_nothing(redis_server):
    redis_client().set(heartbeat_key("hub"), "soon")
    assert problem_of("hub", target(redis_server)) == "no heartbeat yet"


def test_a_redis_that_is_away_is_said(tmp_path):
    said = problem_of("hub", target(f"unix://{tmp_path}/none.sock"))
    assert said.startswith("Redis does not answer: ")


@pytest.fixture
def tcp_redis(starts_servers) -> Iterator[int]:
    """A Redis on a port, with a password and a user; yields the port."""
    (port,) = free_ports(1)
    process = subprocess.Popen(
        [shutil.which("redis-server") or "redis-server", "--port", str(port), "--save", "",
         "--requirepass", "p@ss"], stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_until(lambda: _answers(port), "Redis answers", seconds=20)
        client = redis.Redis(port=port, password="p@ss")
        client.acl_setuser(
            "probe", enabled=True, passwords=["+w:rd"], keys=["*"], categories=["+@all"]
        )
        yield port
    finally:
        process.kill()
        process.wait()


def _answers(port: int) -> bool:
    try:
        return read_keys(f"redis://:p%40ss@127.0.0.1:{port}/0", ["none"]) == [None]
    except OSError:
        return False


@pytest.mark.parametrize(
    "address",
    [":p%40ss@127.0.0.1:{}/3", "probe:w%3Ard@127.0.0.1:{}?db=3", "127.0.0.1:{}/3?password=p@ss"],
)
def test_password_user_and_database_are_those_of_the_address(tcp_redis, address):
    url = "redis://" + address.format(tcp_redis)
    redis.Redis.from_url(f"redis://:p%40ss@127.0.0.1:{tcp_redis}/3").set("key", "1.5")
    assert read_keys(url, ["key", "none"]) == ["1.5", None]


def test_a_wrong_password_is_said_without_it(tcp_redis):
    said = problem_of("hub", target(f"redis://:wrong-one@127.0.0.1:{tcp_redis}/0"))
    assert said.startswith("Redis does not answer: ")
    assert "wrong-one" not in said


@pytest.fixture
def web(starts_servers) -> Iterator[dict[str, int]]:
    """A server whose status for /healthz a test may set; ``port`` is where it is."""
    state = {"status": 200}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(state["status"] if self.path == "/healthz" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        state["port"] = server.server_address[1]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield state
        server.shutdown()


def test_the_web_process_is_well_if_healthz_is_answered_with_200(web):
    assert problem_of("web", target(port=web["port"])) == ""
    web["status"] = 503
    assert problem_of("web", target(port=web["port"])) == (
        "/healthz answers HTTP/1.0 503 Service Unavailable"
    )


@pytest.mark.usefixtures("starts_servers")
def test_the_command_says_what_is_wrong_in_one_line(web, tmp_path):
    here = {"OPSCENTER_PORT": str(web["port"]), "OPSCENTER_DATA_DIR": str(tmp_path)}
    done = run("web", **here)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    done = run("worker", **here)
    assert done.returncode == 1
    assert done.stderr.startswith("worker: Redis does not answer: ")
    assert done.stderr.count("\n") == 1
    done = run("web", OPSCENTER_PORT="none")
    assert (done.returncode, done.stderr) == (
        1, "probe: OPSCENTER_PORT='none' is not a whole number\n",
    )  # fmt: skip
    assert run("redis").returncode == 1


@pytest.mark.parametrize(
    ("command", "names"),
    [
        ("/sbin/docker-init -- python manage.py up --only hub", ("hub",)),
        ("python manage.py up --only=worker", ("worker",)),
        ("python manage.py up", ("web", "hub", "worker", "beat")),
        ("python manage.py prepare", ()),
        ("sh", ()),
    ],
)
def test_without_a_name_it_checks_what_the_container_runs(command, names):
    assert names_of([*command.split(), ""]) == names
