"""``manage.py up`` with two worker processes and a simulated fleet to pull."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.centre import ROOT, Centre, is_running, wait_until

pytestmark = pytest.mark.e2e

WORKERS = ("worker-1", "worker-2")


@pytest.fixture
def centre(tmp_path: Path) -> Iterator[Centre]:
    made = Centre(
        tmp_path / "data",
        "--no-local-agent",
        OPSCENTER_WORKER_PROCESSES="2",
        METRICS_SHARDS="2",
        OPSCENTER_PULL_INTERVAL_SECONDS="5",
        OPSCENTER_HEARTBEAT_SECONDS="2",
        OPSCENTER_HEARTBEAT_LIMIT_SECONDS="10",
    )
    made.start()
    made.wait_until_ready()
    yield made
    made.close()


@pytest.fixture
def fleet(centre: Centre) -> Iterator[None]:
    options = ("--calm", "--clusters", "8", "--pods-per-node", "2", "--history-minutes", "5")
    with centre.simulated_fleet(*options):
        yield


def pulls(centre: Centre) -> dict[str, int]:
    """Return how many pulls each worker process has begun since its start."""
    done = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "opscenter", "inspect", "stats", "--json"],
        cwd=ROOT, env=centre.environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        return {}
    stats = json.loads(done.stdout)
    return {
        node.partition("@")[0]: about["total"].get("metrics.pull_cluster", 0)
        for node, about in stats.items()
    }


def wait_until_both_pull(centre: Centre) -> None:
    wait_until(lambda: all(pulls(centre).get(name) for name in WORKERS), "both workers pull")


def test_two_workers_pull_and_each_is_watched_by_itself(centre, fleet):
    wait_until_both_pull(centre)
    assert centre.manage("probe", "worker").returncode == 0
    assert any(line.startswith("worker-2 |") for line in centre.lines)

    before = centre.wait_for_children(*WORKERS)
    os.kill(before["worker-1"], signal.SIGKILL)
    wait_until(
        lambda: centre.children().get("worker-1", before["worker-1"]) != before["worker-1"],
        "another worker-1",
    )
    centre.wait_until_ready()
    wait_until_both_pull(centre)

    between = centre.children()
    os.kill(between["worker-2"], signal.SIGSTOP)
    centre.wait_for_line("worker-2 hangs: no sign of life")
    wait_until(
        lambda: centre.children().get("worker-2", between["worker-2"]) != between["worker-2"],
        "another worker-2",
    )
    centre.wait_until_ready()
    after = centre.children()
    assert {name for name in after if after[name] != before[name]} == set(WORKERS)
    assert after["worker-1"] == between["worker-1"]

    assert centre.interrupt() == 0
    assert not any(map(is_running, after.values()))


def test_a_silent_one_of_two_workers_is_named_by_readiness_and_probe(centre):
    stopped = centre.wait_for_children(*WORKERS)["worker-2"]
    os.kill(stopped, signal.SIGSTOP)
    _, body = wait_until(
        lambda: answer if (answer := centre.get("/readyz"))[0] == 503 else None, "503"
    )
    assert json.loads(body)["missing"].keys() == {"worker-2"}


def test_without_the_supervisor_a_stopped_worker_is_not_known_and_the_other_is_well(centre):
    stopped = centre.wait_for_children(*WORKERS)["worker-2"]
    assert centre.process is not None
    os.kill(centre.process.pid, signal.SIGSTOP)
    try:
        os.kill(stopped, signal.SIGSTOP)
        missing = wait_until(
            lambda: json.loads(centre.get("/readyz")[1]).get("missing"), "a worker is missing"
        )
        assert missing == {"worker-2": "not known without its supervisor"}
    finally:
        os.kill(stopped, signal.SIGCONT)
        os.kill(centre.process.pid, signal.SIGCONT)
