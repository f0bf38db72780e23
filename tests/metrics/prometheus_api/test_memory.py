"""What range queries take of a process's memory, measured in one of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.centre import ROOT, clean_environment


@pytest.mark.usefixtures("starts_servers")
def test_four_queries_at_the_bound_take_less_than_200_mb(tmp_path):
    run = "from tests.metrics.prometheus_api.memory_child import main; main()"
    done = subprocess.run(
        [sys.executable, "manage.py", "shell", "--no-imports", "-c", run], cwd=ROOT, check=True,
        env=clean_environment(OPSCENTER_DATA_DIR=str(tmp_path)), stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    answers, grown = map(int, done.stdout.split()[-2:])

    assert answers == 4
    assert grown < 200
