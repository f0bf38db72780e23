"""Modules of the arithmetic can be imported first, by whatever begins with them."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.usefixtures("starts_servers")


@pytest.mark.parametrize(
    "module",
    ["metrics.series.rollups", "metrics.stores.base", "metrics.sources.prometheus.responses"],
)
def test_a_module_can_be_the_first_that_is_imported(module: str):
    done = subprocess.run(
        [sys.executable, "-c", f"import {module}"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
