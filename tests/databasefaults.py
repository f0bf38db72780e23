"""Faults of Django's database, for tests with real transactions: read-only, locked, full, empty."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import psycopg
from django.db import connection

WAIT_SECONDS = 0.05


@contextlib.contextmanager
def read_only() -> Iterator[None]:
    """Let the database refuse every write at once, as on a full or a read-only disk."""
    on, off = (
        ("PRAGMA query_only = 1", "PRAGMA query_only = 0")
        if connection.vendor == "sqlite"
        else ("SET default_transaction_read_only = on", "SET default_transaction_read_only = off")
    )
    with connection.cursor() as cursor:
        cursor.execute(on)
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute(off)


@contextlib.contextmanager
def locked() -> Iterator[None]:
    """Hold what every write needs, in another connection, and open ours anew meanwhile."""
    where = connection.settings_dict
    if connection.vendor == "sqlite":
        holder = sqlite3.connect(where["NAME"], isolation_level=None)
        holder.execute("BEGIN EXCLUSIVE")
        options = {**where["OPTIONS"], "timeout": WAIT_SECONDS}
    else:
        holder = psycopg.connect(
            dbname=where["NAME"], user=where["USER"], password=where["PASSWORD"],
            host=where["HOST"], port=where["PORT"] or None,
        )  # fmt: skip
        for table in connection.introspection.table_names():
            holder.execute(f'LOCK TABLE "{table}" IN SHARE MODE')
        options = {**where["OPTIONS"], "options": f"-c lock_timeout={int(WAIT_SECONDS * 1000)}"}
    former = where["OPTIONS"]
    where["OPTIONS"] = options
    connection.close()
    try:
        yield
    finally:
        holder.close()
        where["OPTIONS"] = former
        connection.close()


@contextlib.contextmanager
def full_disk() -> Iterator[None]:
    """Let SQLite's file not grow: a transaction begins, and its statement is refused."""
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA page_count")
        cursor.execute(f"PRAGMA max_page_count = {cursor.fetchone()[0]}")
        try:
            yield
        finally:
            cursor.execute("PRAGMA max_page_count = 1073741823")  # SQLite's default


@contextlib.contextmanager
def emptied(directory: Path) -> Iterator[None]:
    """Put an empty database in the place of ours, as an administrator may by mistake."""
    where = connection.settings_dict
    former = dict(where)
    if connection.vendor == "sqlite":
        where["NAME"] = str(directory / "empty.sqlite3")
    else:
        where["OPTIONS"] = {**where["OPTIONS"], "options": "-c search_path=nothing"}
    connection.close()
    try:
        yield
    finally:
        where.update(former)
        connection.close()
