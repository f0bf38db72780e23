"""Work on request reaches the workers' queue from any process, or is logged and found later."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import redis

from tests.centre import ROOT, clean_environment

pytestmark = pytest.mark.usefixtures("starts_servers")
CODE = "from opscenter.core import task_queue; task_queue.send_on_commit('metrics.export')"


def run(directory: Path, address: str) -> str:
    # Its own process, as the web's is: nothing has loaded the Celery application there.
    return subprocess.run(
        [sys.executable, "manage.py", "shell", "-v0", "-c", CODE],
        cwd=ROOT, env=clean_environment(OPSCENTER_DATA_DIR=str(directory), REDIS_URL=address),
        check=True, capture_output=True, text=True, timeout=120,
    ).stderr  # fmt: skip


def test_a_job_is_put_into_the_queue_of_long_work(redis_server, tmp_path):
    assert run(tmp_path, redis_server) == ""
    keys = [key.decode() for key in redis.Redis.from_url(redis_server).scan_iter("*slow*")]
    assert any(key.startswith("slow") for key in keys), keys


def test_a_queue_that_is_away_is_logged_and_breaks_nothing(tmp_path):
    assert "is done later" in run(tmp_path, f"unix://{tmp_path}/none.sock")
