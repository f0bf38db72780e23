"""The worker's proof that data is stored: on real databases, free and locked."""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from pathlib import Path

import pytest
from django.conf import settings
from django.db import connection

from metrics.stores import get_store
from opscenter.core.heartbeats import redis_client
from opscenter.core.write_checks import DATABASE, METRIC_STORE, key_of, parse
from opscenter.models import WriteProof
from opscenter.monitoring import write_checks
from opscenter.tasks import check_writes

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server")]


@pytest.fixture(autouse=True)
def _little_patience(monkeypatch):
    monkeypatch.setattr(write_checks, "PATIENCE_SECONDS", 0.2)


@contextmanager
def locked(path: Path):
    """Hold the lock of a file as another process would."""
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    yield
    other.execute("ROLLBACK")
    other.close()


def recorded(place: str):
    return parse(redis_client().get(key_of(place)))


@pytest.mark.parametrize("place", [DATABASE, METRIC_STORE])
def test_a_place_that_takes_writes_is_proven(place):
    assert check_writes(place) == "ok"
    assert recorded(place).failing_since is None
    assert recorded(place).proven_at is not None


def test_the_proof_of_the_database_is_one_row_however_often_it_is_made():
    check_writes(DATABASE)
    check_writes(DATABASE)
    assert WriteProof.objects.count() == 1


def test_a_locked_metric_store_is_told_until_it_is_free():
    get_store().clusters()
    with locked(settings.METRICS_SQLITE_PATH):
        assert check_writes(METRIC_STORE) == "it is locked by another process"
        assert recorded(METRIC_STORE).failing_since is not None
    assert check_writes(METRIC_STORE) == "ok"


@pytest.mark.skipif(connection.vendor != "sqlite", reason="PostgreSQL has no lock of the whole")
def test_a_locked_database_is_told_until_it_is_free_and_keeps_its_patience():
    with locked(Path(connection.settings_dict["NAME"])):
        assert check_writes(DATABASE) == "it is locked by another process"
        assert recorded(DATABASE).failing_since is not None
    assert check_writes(DATABASE) == "ok"
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA busy_timeout")
        assert cursor.fetchone()[0] == connection.settings_dict["OPTIONS"]["timeout"] * 1000


@pytest.mark.skipif(connection.vendor != "sqlite", reason="PostgreSQL's files are its own")
def test_a_database_whose_file_was_moved_while_it_is_open_takes_no_writes():
    assert check_writes(DATABASE) == "ok"
    WriteProof.objects.count()  # a connection that stays open
    path = Path(connection.settings_dict["NAME"])
    path.rename(path.with_suffix(".away"))
    try:
        with pytest.raises(FileNotFoundError):
            write_checks.PROOFS[DATABASE](1.0)
    finally:
        path.with_suffix(".away").rename(path)
    assert check_writes(DATABASE) == "ok"
