"""What a database's errors mean, and how long somebody waits for one."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from django.db import (
    DataError,
    IntegrityError,
    InterfaceError,
    InternalError,
    OperationalError,
    ProgrammingError,
    connection,
    connections,
    transaction,
)

from opscenter.core import database
from opscenter.core.database import best_effort, database_trouble, limit_waits


def wrapped(cause: Exception, kind: type[Exception] = OperationalError) -> Exception:
    """Return the error as Django raises it."""
    try:
        raise kind(*cause.args) from cause
    except kind as error:
        return error


def full(path: Path) -> None:
    with sqlite3.connect(path) as one:
        one.execute("PRAGMA max_page_count = 4")
        one.execute("CREATE TABLE t (x)")
        one.execute("INSERT INTO t VALUES (zeroblob(100000))")


def locked(path: Path) -> None:
    with sqlite3.connect(path, timeout=0) as one, sqlite3.connect(path, timeout=0) as two:
        one.execute("BEGIN EXCLUSIVE")
        two.execute("BEGIN IMMEDIATE")


def read_only(path: Path) -> None:
    sqlite3.connect(path).execute("CREATE TABLE t (x)")
    sqlite3.connect(f"file:{path}?mode=ro", uri=True).execute("INSERT INTO t VALUES (1)")


def absent(path: Path) -> None:
    sqlite3.connect(path / "no-such-directory" / "file")


def empty(path: Path) -> None:
    sqlite3.connect(path).execute("SELECT * FROM clusters_cluster")


def older(path: Path) -> None:
    sqlite3.connect(path).execute("CREATE TABLE t (x)")
    sqlite3.connect(path).execute("SELECT newer FROM t")


def older_to_write(path: Path) -> None:
    sqlite3.connect(path).execute("CREATE TABLE t (x)")
    sqlite3.connect(path).execute("INSERT INTO t (newer) VALUES (1)")


def no_database(path: Path) -> None:
    path.write_bytes(b"a text file\n" * 100)
    sqlite3.connect(path).execute("SELECT 1 FROM t")


def damaged(path: Path) -> None:
    one = sqlite3.connect(path)
    one.execute("CREATE TABLE t (x)")
    one.execute("INSERT INTO t VALUES (zeroblob(100000))")
    one.commit()
    one.close()
    path.write_bytes(path.read_bytes()[:4096] + b"\xff" * 8192)
    sqlite3.connect(path).execute("SELECT * FROM t").fetchall()


def wrong_statement(path: Path) -> None:
    sqlite3.connect(path).execute("SELEKT 1")


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (full, "takes no changes at the moment: its disk is full."),
        (locked, "takes no changes at the moment: it is locked by another process."),
        (read_only, "takes no changes at the moment: it is read-only."),
        (absent, "does not answer as it should: its file cannot be opened."),
        (empty, "as it should: it lacks a table or a column of this version"),
        (older, "as it should: it lacks a table or a column of this version"),
        (older_to_write, "as it should: it lacks a table or a column of this version"),
        (no_database, "as it should: its file is none of a database."),
        (damaged, "as it should: its file is damaged."),
        (wrong_statement, None),
    ],
)
def test_an_error_of_sqlite_is_put_in_words(
    tmp_path: Path, fault: Callable[[Path], None], words: str | None
):
    with pytest.raises(sqlite3.DatabaseError) as raised:
        fault(tmp_path / "one.sqlite3")
    trouble = database_trouble(wrapped(raised.value))
    assert words in trouble if words else trouble == ""


@pytest.mark.parametrize(
    ("cause", "kind", "words"),
    [
        (psycopg.errors.ReadOnlySqlTransaction(), InternalError, "it is read-only"),
        (psycopg.errors.LockNotAvailable(), OperationalError, "it is locked"),
        (psycopg.errors.DiskFull(), OperationalError, "its disk is full"),
        (psycopg.errors.QueryCanceled(), OperationalError, "it took too long"),
        (psycopg.errors.TooManyConnections(), OperationalError, "it has no connection"),
        (psycopg.errors.AdminShutdown(), OperationalError, "it is being stopped"),
        (psycopg.OperationalError("connection refused"), OperationalError, "cannot be reached"),
        (psycopg.InterfaceError("the connection is closed"), InterfaceError, "cannot be reached"),
        (psycopg.errors.UniqueViolation(), IntegrityError, None),
        (psycopg.errors.UndefinedTable(), ProgrammingError, "it lacks a table or a column"),
        (psycopg.errors.UndefinedColumn(), ProgrammingError, "it lacks a table or a column"),
        (psycopg.errors.DataCorrupted(), InternalError, "its data is damaged"),
        (psycopg.errors.SyntaxError(), ProgrammingError, None),
        (psycopg.errors.NumericValueOutOfRange(), DataError, None),
        (psycopg.ProgrammingError("2 placeholders, 1 parameter"), ProgrammingError, None),
    ],
)
def test_an_error_of_postgresql_is_put_in_words(cause, kind, words):
    trouble = database_trouble(wrapped(cause, kind))
    assert words in trouble if words else trouble == ""


@pytest.mark.parametrize("error", [None, ValueError("x"), OperationalError("x"), OSError(28, "x")])
def test_an_error_of_another_kind_is_none_of_the_database(error):
    assert database_trouble(error) == ""


@pytest.mark.django_db
def test_the_wait_for_a_lock_is_as_before_after_a_best_effort():
    question = "PRAGMA busy_timeout" if connection.vendor == "sqlite" else "SHOW lock_timeout"

    def limit() -> object:
        with connection.cursor() as cursor:
            cursor.execute(question)
            return cursor.fetchone()[0]

    before, within = limit(), []
    assert best_effort("a test", lambda: within.append(limit()))
    assert limit() == before
    assert within[0] != before


@pytest.mark.django_db(transaction=True)
def test_a_bug_in_a_best_effort_is_raised_and_undone(operator):
    def write() -> None:
        type(operator).objects.filter(pk=operator.pk).update(first_name="changed")
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011 - the one above
        best_effort("a test", write)
    operator.refresh_from_db()
    assert operator.first_name == ""
    assert transaction.get_autocommit()


def test_a_line_is_logged_at_most_once_a_minute_for_each_thing(monkeypatch, caplog):
    clock = iter([0.0, 30.0, 30.0, 61.0])
    monkeypatch.setattr(database, "_logged", {})
    monkeypatch.setattr(database.time, "monotonic", lambda: next(clock))
    for what in ("one", "one", "two", "one"):
        database.log_left_out(what, ValueError("x"))
    assert [line.split()[0] for line in caplog.messages] == ["one", "two", "one"]


def test_the_web_process_waits_only_briefly_for_a_lock(monkeypatch):
    settings = connections.settings["default"]
    monkeypatch.setitem(settings, "OPTIONS", dict(settings["OPTIONS"]))
    limit_waits()
    if connection.vendor == "sqlite":
        assert settings["OPTIONS"]["timeout"] == 5
        assert settings["OPTIONS"]["transaction_mode"] == "IMMEDIATE"
    else:
        limits = "-c lock_timeout=5000 -c statement_timeout=60000"
        assert settings["OPTIONS"]["options"].endswith(limits)
