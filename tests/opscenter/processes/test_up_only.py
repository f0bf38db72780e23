"""What the containers run: ``manage.py up --only`` on PostgreSQL and a Redis that runs
elsewhere."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.centre import ROOT, Centre, free_ports, is_running, wait_until
from tests.postgresql import private_postgresql

pytestmark = pytest.mark.e2e
NAMES = ("web", "hub", "worker", "beat")


class Redis:
    """A Redis on a TCP port that the test can end and start again."""

    def __init__(self, port: int) -> None:
        self.url = f"redis://127.0.0.1:{port}/0"
        self._command = [
            shutil.which("redis-server") or "redis-server", "--port", str(port),
            "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
        ]  # fmt: skip
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture
def redis() -> Iterator[Redis]:
    server = Redis(*free_ports(1))
    yield server
    server.kill()


@pytest.fixture
def centre(tmp_path: Path, redis: Redis) -> Iterator[Centre]:
    """A centre whose processes are supervised one by one; ``processes`` has their supervisors."""
    with private_postgresql() as url:
        made = Centre(
            tmp_path / "data",
            DATABASE_URL=url,
            REDIS_URL=redis.url,
            OPSCENTER_ADMIN_PASSWORD="a password for the tests",
            OPSCENTER_HEARTBEAT_SECONDS="2",
            OPSCENTER_HEARTBEAT_LIMIT_SECONDS="10",
        )
        prepared = made.manage("prepare")
        assert prepared.returncode == 0, prepared.stderr
        assert prepared.stdout == ""  # the password was given: none is printed
        made.supervisors = {name: start(made, name) for name in NAMES}
        yield made
        for process in made.supervisors.values():
            process.kill()
            process.wait()
        for log in sorted(made.data_dir.glob("*.log")):
            print(f"--- {log.name}\n{log.read_text()[-3000:]}")  # seen when the test fails


def start(centre: Centre, name: str) -> subprocess.Popen[bytes]:
    with (centre.data_dir / f"{name}.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, str(ROOT / "manage.py"), "up", "--only", name],
            env=centre.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip


def child_of(process: subprocess.Popen[bytes]) -> int:
    """Return the process id of a supervisor's one child; 0 while there is none."""
    listed = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return int(listed[0]) if listed else 0


def test_the_processes_find_each_other_show_life_and_outlive_redis(centre, redis):
    centre.wait_until_ready()
    for name in NAMES:
        assert centre.manage("probe", name).returncode == 0
    before = {name: child_of(process) for name, process in centre.supervisors.items()}

    redis.kill()
    status, body = centre.get("/readyz")
    assert status == 503
    assert json.loads(body)["missing"]["redis"] == "does not answer"
    done = centre.manage("probe", "worker")
    assert done.returncode == 1
    assert done.stderr.startswith("worker: Redis does not answer")

    # Longer than the limit: no process is restarted for what Redis does not pass on.
    time.sleep(14)
    redis.start()
    centre.wait_until_ready()
    assert before == {name: child_of(process) for name, process in centre.supervisors.items()}

    os.kill(before["beat"], signal.SIGSTOP)
    wait_until(
        lambda: child_of(centre.supervisors["beat"]) not in (0, before["beat"]), "another beat"
    )
    centre.wait_until_ready()
    after = {name: child_of(process) for name, process in centre.supervisors.items()}
    assert {name for name in NAMES if after[name] != before[name]} == {"beat"}

    for process in centre.supervisors.values():
        process.terminate()
    assert [process.wait(timeout=30) for process in centre.supervisors.values()] == [0] * 4
    assert not any(map(is_running, after.values()))
