"""``kill -9`` in the middle of an expiry: what should stay stays, what should go goes, once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from uuid import UUID

import pytest

from metrics.series.windows import DAY
from metrics.stores.sqlite.store import SqliteStore
from metrics.stores.writer import Batch
from tests.centre import ROOT
from tests.metrics.deletion.expiring import NODE, NOW, T0
from tests.metrics.stores.contract import row

pytestmark = pytest.mark.usefixtures("starts_servers")
KILLED_AT = (1, 2, 3, 6, 9)


def run(data_dir: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OPSCENTER_DATA_DIR": str(data_dir)}
    environment.pop("DATABASE_URL", None)
    return subprocess.run(
        [sys.executable, *arguments],
        env=environment, cwd=ROOT, check=False, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


@pytest.mark.sqlite_only(reason="an expiry in InfluxDB is one mark in the database")
def test_a_killed_expiry_is_finished_by_the_next_run(tmp_path):
    assert run(tmp_path, "manage.py", "migrate", "-v0").returncode == 0
    made = run(
        tmp_path, "manage.py", "shell", "-v0", "-c",
        "from tests.factories import ClusterFactory\nprint(ClusterFactory(name='north-1').pk)",
    )  # fmt: skip
    cluster = UUID(made.stdout.split()[-1])
    store = SqliteStore(tmp_path / "metrics.sqlite3")
    ages = (0, 9 * DAY, 10 * DAY)
    rows = [row(NODE, T0 - age + 60 * m, cpu_mc=1) for age in ages for m in range(15)]
    store.write(cluster, "agent", Batch(rows=rows))
    whole = {tier: store.counts(cluster, "node", tier, 0, T0 + DAY) for tier in ("10m", "1h")}
    new = store.counts(cluster, "node", "1m", T0, T0 + DAY)
    for steps in KILLED_AT:
        killed = run(tmp_path, "-m", "tests.metrics.deletion.expire_worker", str(NOW), str(steps))
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert store.counts(cluster, "node", "1m", T0, T0 + DAY) == new
    ended = run(tmp_path, "-m", "tests.metrics.deletion.expire_worker", str(NOW), "0")
    assert ended.returncode == 0, ended.stderr
    assert store.counts(cluster, "node", "1m", 0, T0 + DAY) == new
    assert {
        tier: store.counts(cluster, "node", tier, 0, T0 + DAY) for tier in ("10m", "1h")
    } == whole
    assert store.check() == "ok"
    store.close()
    read = "from clusters.models import AuditEvent as A\nimport json\n"
    read += "print(json.dumps([a.detail for a in A.objects.filter(action='metrics.expire')]))"
    (detail,) = json.loads(run(tmp_path, "manage.py", "shell", "-v0", "-c", read).stdout)
    rows_said = {part["kind"]: part["rows"] for part in detail["expired"]}
    # A call that was killed between the deletion and the note of it is not counted: 7 rows each.
    assert rows_said["node"] in range(30 - 7 * len(KILLED_AT), 31)
    assert {part["from"] for part in detail["expired"]} == {"the beginning"}
