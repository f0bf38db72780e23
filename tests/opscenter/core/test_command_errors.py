"""The one line with which a command ends when a person has to change something."""

from __future__ import annotations

import pytest
import redis
from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError

from opscenter.core import command_errors, disk
from opscenter.core.command_errors import AWAY, CHANGE_NEEDED, exit_code, one_line_reason


def test_a_start_on_a_full_disk_says_that_the_disk_is_full(settings, tmp_path, monkeypatch):
    settings.DATA_DIR = tmp_path
    monkeypatch.setattr(disk, "NEEDED_BYTES", 10**18)
    assert one_line_reason(OperationalError("disk I/O error")) == (
        f"OPSCENTER_DATA_DIR: the disk of {tmp_path} is full: free some space (disk I/O error)"
    )


def test_another_error_is_not_called_a_full_disk(settings, tmp_path):
    settings.DATA_DIR = tmp_path
    assert "full" not in one_line_reason(OperationalError("disk I/O error"))


def caused(exc: Exception, by: Exception) -> Exception:
    exc.__cause__ = by
    return exc


@pytest.mark.parametrize(
    "exc",
    [
        redis.ConnectionError("Connection refused"),
        redis.TimeoutError("timed out"),
        redis.BusyLoadingError("loading the dataset in memory"),
        caused(ImproperlyConfigured("REDIS_URL: ..."), redis.ConnectionError("refused")),
        OperationalError("database is locked"),
    ],
)
def test_what_does_not_answer_now_is_worth_another_start(exc):
    assert exit_code(exc) == AWAY == 75


@pytest.mark.parametrize(
    "exc",
    [
        redis.AuthenticationError("invalid username-password pair"),
        redis.ConnectionError("certificate verify failed: self-signed certificate"),
        ImproperlyConfigured("OPSCENTER_PORT: eighty"),
        OSError("no space"),
    ],
)
def test_what_a_person_has_to_change_is_not_tried_again(exc):
    assert exit_code(exc) == CHANGE_NEEDED == 2


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("connection to server at 127.0.0.1, port 5432 failed: Connection refused", 75),
        ("connection failed: FATAL:  the database system is starting up", 75),
        ("failed to resolve host 'db'", 75),
        ("connection timeout expired", 75),
        ('connection failed: FATAL:  password authentication failed for user "ops"', 2),
        ('connection failed: FATAL:  database "ops" does not exist', 2),
        ("connection failed: server does not support SSL, but SSL was required", 2),
    ],
)
def test_a_postgresql_that_is_away_is_told_from_one_that_refuses(monkeypatch, text, code):
    monkeypatch.setattr(command_errors.connection, "vendor", "postgresql", raising=False)
    assert exit_code(OperationalError(text)) == code
