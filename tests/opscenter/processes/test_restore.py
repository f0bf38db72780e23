"""Backups are restored as docs/operations.md says, and nothing foreign starts instead."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.centre import Centre

pytestmark = pytest.mark.e2e

# A cluster with one minute, as a pull leaves it.
_WITH_DATA = """
from datetime import datetime, UTC
from clusters.models import ClusterStatus
from clusters.services import create_cluster
from metrics.series.rows import SeriesKey
from metrics.series.windows import STREAM
from metrics.stores import get_store
from tests.metrics.stores.contract import T0, row
from metrics.stores.writer import Batch
cluster = create_cluster(name="restored-1", actor="test")
rows = [row(SeriesKey("node", "", "n1"), T0)]
get_store().write(cluster.pk, STREAM, Batch(rows=rows, head=T0 + 60))
ClusterStatus.objects.filter(pk=cluster.pk).update(data_as_of=datetime.now(UTC))
"""
_NODES = """
from clusters.models import Cluster
from metrics.stores import get_store
print("nodes", len(get_store().last(Cluster.objects.get().pk, "node")))
"""
SHELL = ("shell", "--no-imports", "-c")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data directory of a prepared centre that has a cluster with data."""
    made = Centre(tmp_path_factory.mktemp("prepared") / "data", METRICS_SHARDS="2")
    done(made, "prepare")
    done(made, *SHELL, _WITH_DATA)
    return made.data_dir


@pytest.fixture
def centre(prepared: Path, tmp_path: Path) -> Centre:
    """A centre with a copy of that directory; nothing of it runs."""
    shutil.copytree(prepared, tmp_path / "data")
    return Centre(tmp_path / "data", METRICS_SHARDS="2")


def done(centre: Centre, *arguments: str) -> str:
    """Return what a command says, which must succeed."""
    result = centre.manage(*arguments)
    assert result.returncode == 0, result.stderr
    return result.stdout


def refused(centre: Centre, *arguments: str) -> str:
    """Return the one line with which a command is refused."""
    result = centre.manage(*arguments)
    assert result.returncode == 2, (result.stdout, result.stderr)
    assert result.stderr.count("\n") == 1, result.stderr
    return result.stderr


def metric_files(centre: Centre) -> list[Path]:
    return sorted(centre.data_dir.glob("metrics*.sqlite3*"))


def test_a_backup_is_restored_by_the_documented_commands(centre, tmp_path):
    backup = tmp_path / "backup"
    backup.mkdir()
    database = centre.data_dir / "opscenter.sqlite3"
    with sqlite3.connect(database) as ours, sqlite3.connect(backup / database.name) as copy:
        ours.backup(copy)  # what the program sqlite3 does on ".backup"
    done(centre, "backup_metrics", str(backup / "metrics"))
    for name in ("secret_key", "hub_host_key"):
        shutil.copy2(centre.data_dir / name, backup / name)
    shutil.rmtree(centre.data_dir)
    centre.data_dir.mkdir()
    for path in (backup / database.name, backup / "secret_key", backup / "hub_host_key"):
        shutil.copy2(path, centre.data_dir / path.name)
    for path in (backup / "metrics").iterdir():
        shutil.copy2(path, centre.data_dir / path.name)
    done(centre, "prepare")
    assert "nodes 1" in done(centre, *SHELL, _NODES)


def _without_metrics(centre: Centre) -> None:
    for path in metric_files(centre):
        path.unlink()


def _of_somebody_else(centre: Centre) -> None:
    _without_metrics(centre)
    other = Centre(centre.data_dir.with_name("other"), METRICS_SHARDS="2")
    done(other, "prepare")
    for path in metric_files(other):
        shutil.copy2(path, centre.data_dir / path.name)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_without_metrics, "is empty, although clusters have data"),
        (_of_somebody_else, "is another installation's"),
    ],
)
@pytest.mark.parametrize("command", ["prepare", "up"])
def test_a_store_that_is_not_ours_starts_nothing(
    centre: Centre, command: str, change: Callable[[Centre], None], said: str
):
    change(centre)
    line = refused(centre, command)
    assert said in line
    assert "docs/operations.md" in line


def test_an_empty_store_is_taken_on_purpose_once(centre):
    _without_metrics(centre)
    done(centre, "prepare", "--adopt-empty-store")
    done(centre, "prepare")
    assert "nodes 0" in done(centre, *SHELL, _NODES)


def test_a_store_of_an_earlier_version_is_adopted_by_an_upgrade(centre):
    for path in metric_files(centre):
        if path.suffix == ".sqlite3":  # and not its log
            with sqlite3.connect(path) as connection:
                connection.execute("DELETE FROM meta WHERE key = 'installation'")
    done(centre, *SHELL, "from opscenter.models import Installation as I; I.objects.all().delete()")
    done(centre, "prepare")
    assert "nodes 1" in done(centre, *SHELL, _NODES)


@pytest.mark.parametrize("command", ["prepare", "up"])
def test_another_secret_key_starts_nothing(centre, command):
    (centre.data_dir / "secret_key").write_text("kD8s-2jfh_49fhqpWmZx-other")
    line = refused(centre, command)
    assert "OPSCENTER_SECRET_KEY is another key" in line
    assert "kD8s" not in line
