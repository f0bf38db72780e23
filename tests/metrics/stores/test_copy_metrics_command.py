"""``manage.py copy_metrics`` as an operator runs it: a process of its own, killed and run again."""

from __future__ import annotations

import subprocess
import sys
import time
from uuid import uuid4

import pytest

from metrics.series.rows import SeriesKey
from metrics.stores.sqlite.store import SqliteStore
from metrics.stores.writer import Batch
from tests.centre import ROOT, clean_environment
from tests.metrics.stores.contract import NODE, STREAM, row, window
from tests.metrics.stores.influxdb.server import own_prefix, server


@pytest.fixture(scope="module")
def prefix(starts_servers):
    server()
    yield from own_prefix()


@pytest.fixture
def environment(tmp_path, prefix):
    to = server()
    return clean_environment(
        OPSCENTER_DATA_DIR=str(tmp_path / "data"),
        INFLUXDB_URL=to.url,
        INFLUXDB_ORG=to.org,
        INFLUXDB_TOKEN=to.token,
        INFLUXDB_BUCKET_PREFIX=prefix,
    )


def manage(environment, *arguments):
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        env=environment, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


def fill(store, hours=4, pods=5):
    end = int(time.time()) // 3600 * 3600
    start = end - hours * 3600
    cluster = uuid4()
    keys = [NODE, *(SeriesKey("pod", "ns", f"p{at}") for at in range(pods))]
    rows = [row(key, ts, cpu_mc=ts % 1000) for ts in range(start, end, 60) for key in keys]
    lines = [window(ts, ts + 600) for ts in range(start, end, 600)]
    store.write(cluster, STREAM, Batch(rows, [], lines, end, end))
    return cluster


def test_a_copy_that_is_killed_and_run_again_has_everything(environment, tmp_path):
    assert manage(environment, "migrate", "--verbosity", "0").returncode == 0
    store = SqliteStore(tmp_path / "data" / "metrics.sqlite3")
    for _ in range(3):
        fill(store)
    store.close()
    command = [sys.executable, "manage.py", "copy_metrics", "--to", "influxdb"]
    with subprocess.Popen(
        command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        for line in process.stdout:
            if "pod 1m" in line:
                process.kill()
                break
    checked = manage(environment, "copy_metrics", "--to", "influxdb", "--check")
    assert (checked.returncode, "differences, run it again" in checked.stdout) == (1, True)
    again = manage(environment, "copy_metrics", "--to", "influxdb")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "3 clusters from sqlite to influxdb" in again.stdout
    assert "pod 1m: 1,200 rows, 1,200 were there" in again.stdout
    assert "pod 1m: 1,200 rows, 1,200 copied" in again.stdout
    assert again.stdout.endswith("everything is there\n")
    (tmp_path / "data" / "metrics.sqlite3").rename(tmp_path / "old.sqlite3")
    back = manage(environment, "copy_metrics", "--to", "sqlite")
    assert back.returncode == 0, back.stdout + back.stderr
    old, new = SqliteStore(tmp_path / "old.sqlite3"), SqliteStore(store_path(tmp_path))
    for cluster in old.clusters():
        for kind in ("cluster", "node", "pod"):
            for tier in ("1m", "10m", "1h"):
                where = (cluster, kind, tier, 0, 1 << 33)
                assert new.counts(*where) == old.counts(*where) != (0, 0)
        assert new.position(cluster, STREAM) == old.position(cluster, STREAM)
        assert new.windows(cluster, STREAM, 0, 1 << 33) == old.windows(cluster, STREAM, 0, 1 << 33)


def store_path(tmp_path):
    return tmp_path / "data" / "metrics.sqlite3"


@pytest.mark.usefixtures("starts_servers")
def test_without_a_token_the_command_and_the_start_say_so_in_one_line(tmp_path):
    environment = clean_environment(OPSCENTER_DATA_DIR=str(tmp_path / "data"))
    copied = manage(environment, "copy_metrics", "--to", "influxdb")
    assert copied.returncode == 2
    assert copied.stderr == (
        "manage.py copy_metrics:"
        " INFLUXDB_TOKEN is not set, and the metric store influxdb needs it\n"
    )
    started = manage({**environment, "METRICS_STORE": "influxdb"}, "up")
    assert started.returncode == 2
    assert started.stderr.count("\n") == 1
    assert "INFLUXDB_TOKEN" in started.stderr


@pytest.mark.usefixtures("starts_servers")
def test_an_unknown_store_is_refused_by_name(tmp_path):
    environment = clean_environment(OPSCENTER_DATA_DIR=str(tmp_path), METRICS_STORE="influx")
    started = manage(environment, "up")
    assert started.returncode == 2
    assert "METRICS_STORE='influx' is not one of sqlite, influxdb" in started.stderr
