"""Prove that what Ops Center records is stored: write a row on the way that data goes, read it.

The worker does it every few seconds. The outcome goes to Redis
(:mod:`opscenter.core.write_checks`), where readiness finds it whether the database works or not.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from django.conf import settings
from django.db import DatabaseError, connection, transaction

from metrics.stores import StoreError, get_store
from opscenter.core.disk import prove_in_place, prove_space
from opscenter.core.write_checks import DATABASE, METRIC_STORE, record_write, refusal
from opscenter.models import WriteProof

PATIENCE_SECONDS = 10.0
"""How long a row may wait for a lock: less than a person waits for a page."""

logger = logging.getLogger(__name__)


def check_writes(name: str) -> str:
    """Write to one place, record how that went, and return the error; "" if it went well.

    Args:
        name: a key of :data:`PROOFS`.

    Raises:
        redis.exceptions.RedisError: if Redis does not store the outcome.
    """
    began = time.time()
    error = ""
    try:
        PROOFS[name](began)
    except (DatabaseError, StoreError, OSError) as exc:
        error = refusal(exc)
        logger.error("the %s takes no writes: %s", name, exc)
    record_write(name, error, began=began)
    return error


def _prove_database(now: float) -> None:
    path = database_path()
    if path is not None:
        prove_space(path.resolve().parent)
    with _brief_sqlite_waits(), transaction.atomic():
        if path is None:
            _brief_postgres_waits()
        WriteProof.objects.update_or_create(pk=1, defaults={"at": now})
    if WriteProof.objects.values_list("at", flat=True).get(pk=1) < now:
        msg = "the database does not return what was written"
        raise DatabaseError(msg)
    if path is not None:
        try:
            prove_in_place(path, f"SELECT at FROM {WriteProof._meta.db_table} WHERE id = 1", now)  # noqa: S608
        except sqlite3.Error as exc:
            raise DatabaseError(str(exc)) from exc


def _prove_metric_store(now: float) -> None:
    get_store().prove_writable(int(now), seconds=PATIENCE_SECONDS)


PROOFS: dict[str, Callable[[float], None]] = {
    DATABASE: _prove_database,
    METRIC_STORE: _prove_metric_store,
}


def database_path() -> Path | None:
    """Return Django's database file; None on PostgreSQL."""
    if connection.vendor != "sqlite":
        return None
    return Path(settings.DATABASES["default"]["NAME"])


@contextmanager
def _brief_sqlite_waits() -> Iterator[None]:
    """Wait for other writers of a SQLite file for less time than requests do, within the block."""
    if connection.vendor != "sqlite":
        yield
        return
    own = connection.settings_dict["OPTIONS"].get("timeout", 5)
    _execute(f"PRAGMA busy_timeout = {round(PATIENCE_SECONDS * 1000)}")
    try:
        yield
    finally:
        _execute(f"PRAGMA busy_timeout = {round(own * 1000)}")


def _brief_postgres_waits() -> None:
    """Let no statement of this transaction take longer than a proof may."""
    _execute(f"SET LOCAL statement_timeout = {round(PATIENCE_SECONDS * 1000)}")


def _execute(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)
