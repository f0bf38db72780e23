"""The outcome of the last write, as it is kept and as it is worded."""

from __future__ import annotations

import errno
import sqlite3

import pytest
from django.db import OperationalError

from metrics.stores import StoreError
from opscenter.core.heartbeats import redis_client, write_heartbeat
from opscenter.core.write_checks import (
    DATABASE,
    METRIC_STORE,
    WriteCheck,
    key_of,
    parse,
    recent_recording_problem,
    record_write,
    recording_problem,
    refusal,
)


def recorded() -> WriteCheck | None:
    return parse(redis_client().get(key_of(DATABASE)))


def test_nothing_is_known_before_the_first_write(redis_server):
    assert recorded() is None


def test_a_good_write_is_the_proof(redis_server):
    record_write(DATABASE, now=1000)
    assert recorded() == WriteCheck(at=1000, proven_at=1000)


def test_a_failure_counts_from_when_the_first_one_began(redis_server):
    record_write(DATABASE, now=1000)
    record_write(DATABASE, "it is locked", began=1015, now=1025)
    record_write(DATABASE, "the disk is full", began=1030, now=1031)
    assert recorded() == WriteCheck(1031, 1000, 1015, "the disk is full")


def test_a_good_write_ends_a_failure(redis_server):
    record_write(DATABASE, "it is locked", began=1015, now=1025)
    record_write(DATABASE, now=1030)
    assert recorded() == WriteCheck(at=1030, proven_at=1030)


def test_a_hub_that_shows_life_is_no_problem(redis_server):
    write_heartbeat("hub", now=1000)
    assert recording_problem(1030) == ""


def test_a_hub_whose_sign_is_missing_or_in_the_future_shows_no_life(redis_server):
    assert recording_problem(1000) == "Ops Center's hub shows no life"  # for longer than it is kept
    write_heartbeat("hub", now=8200)
    said = "Ops Center's hub shows no life: its last sign lies in the future"
    assert recording_problem(1000) == said


def test_no_tunnel_is_blamed_while_the_hubs_sign_cannot_be_read(settings, tmp_path):
    settings.REDIS_URL = f"unix://{tmp_path}/none.sock"
    assert recording_problem(1000) == "Ops Center's Redis does not answer"


def test_a_failed_write_is_told_until_nobody_has_seen_it_lately(redis_server):
    now = 1_800_000_000
    record_write(METRIC_STORE, "the disk is full", now=now)
    said = "Ops Center's metric store takes no writes since 2027-01-15 08:00 UTC: the disk is full"
    for at, expected in (
        (now + 30, said),
        (now + 600, ""),  # the worker is away: it is not known
        (now - 600, ""),  # a clock went back
    ):
        write_heartbeat("hub", now=at)
        assert recording_problem(at) == expected


def test_a_write_that_fails_is_the_reason_before_a_hub_without_life(redis_server):
    record_write(METRIC_STORE, "the disk is full", now=1_800_000_000)
    assert "takes no writes" in recording_problem(1_800_000_001)


def test_a_hub_without_life_is_one_since_its_last_sign(redis_server):
    write_heartbeat("hub", now=1_800_000_000)
    said = "Ops Center's hub shows no life since 2027-01-15 08:00 UTC"
    assert recording_problem(1_800_000_031) == said


def asked() -> int:
    """Return how often Redis was asked."""
    return redis_client().info("commandstats").get("cmdstat_mget", {}).get("calls", 0)


def test_redis_is_asked_once_for_all_that_is_recorded_in_a_second(redis_server, monkeypatch):
    before, clock = asked(), [1000.0]
    monkeypatch.setattr("opscenter.core.write_checks.time.monotonic", lambda: clock[0])
    said = {recent_recording_problem() for _ in range(50)}
    assert (said, asked() - before) == ({"Ops Center's hub shows no life"}, 1)
    write_heartbeat("hub")
    clock[0] += 1
    assert (recent_recording_problem(), asked() - before) == ("", 2)


@pytest.mark.parametrize("raw", [b"", b"1700000000.5", b"{", b'{"at": 1, "more": 2}', b"[]"])
def test_what_another_version_left_in_redis_says_nothing(raw):
    assert parse(raw) is None


def sqlite_error(code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("an error with /a/path")
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    ("cause", "words"),
    [
        (sqlite_error(sqlite3.SQLITE_FULL), "the disk is full"),
        (sqlite_error(sqlite3.SQLITE_BUSY_SNAPSHOT), "it is locked by another process"),
        (sqlite_error(sqlite3.SQLITE_READONLY_DBMOVED), "it is read-only"),
        (OSError(errno.ENOSPC, "No space left on device", "/a/path"), "the disk is full"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "the disk quota is used up"),
        (OSError(errno.EMFILE, "Too many open files", "/a/path"), "no file descriptor is free"),
        (TimeoutError(), "it takes too long"),
        (RuntimeError("of ours"), "the log says why"),
    ],
)
@pytest.mark.parametrize("outer", [OperationalError, StoreError])
def test_a_refusal_is_worded_by_its_cause_and_names_no_path(cause, words, outer):
    error = outer("/a/path: it failed")
    error.__cause__ = cause
    assert refusal(error) == words
