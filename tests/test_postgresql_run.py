"""The files that do not run on PostgreSQL are there, each with its reason."""

from __future__ import annotations

from pathlib import Path

from tests.postgresql_run import LEFT_OUT


def test_every_file_that_is_left_out_is_there_and_says_why():
    tests = Path(__file__).resolve().parent
    assert [name for name in LEFT_OUT if not (tests / name).is_file()] == []
    assert all(LEFT_OUT.values())
