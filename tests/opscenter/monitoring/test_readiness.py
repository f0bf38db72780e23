"""The sentence for people, and the disk: what they say, and that they never fail."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest

from clusters.tunnel.counters import UNKNOWN_PROXY_KEY
from opscenter.core import disk
from opscenter.core.heartbeats import redis_client, write_heartbeat
from opscenter.core.write_checks import DATABASE, WriteCheck, record_write
from opscenter.monitoring import readiness
from opscenter.monitoring.readiness import (
    centre_problem,
    problem_of,
    proxy_warnings,
    unproven_parts,
    warnings,
)
from tests.signs import show_hub, show_life

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
AT = NOW.timestamp()


def test_a_centre_that_is_proven_fine_has_no_problem(redis_server):
    show_life(AT)
    assert centre_problem(NOW) == centre_problem(AT) == ""


def test_the_problem_is_of_now_where_no_time_is_given(redis_server):
    show_life()
    assert centre_problem() == ""


def test_a_database_that_takes_no_writes_is_the_problem(redis_server):
    show_life(AT)
    record_write(DATABASE, "the disk is full", now=AT - 60)
    record_write(DATABASE, "the disk is full", now=AT)
    assert centre_problem(NOW) == (
        "Ops Center's database takes no writes since 11:59:00 UTC: the disk is full"
    )


def test_a_hub_that_cannot_record_is_the_problem(redis_server):
    show_life(AT)
    show_hub(WriteCheck(AT, AT - 90, AT - 60, "it is locked by another process"))
    assert centre_problem(NOW) == (
        "The hub cannot record what its tunnels do since 11:59:00 UTC:"
        " it is locked by another process"
    )


def test_what_is_away_is_named_and_what_only_it_knows_is_not(redis_server):
    show_life(AT)
    write_heartbeat("worker", now=AT - 75)
    write_heartbeat("beat", now=AT - 75)
    assert centre_problem(NOW) == "The worker: no heartbeat for 75 s"


def test_without_redis_the_problem_is_said_at_once(settings, tmp_path):
    settings.REDIS_URL = f"unix://{tmp_path}/none.sock"
    assert centre_problem(NOW) == "Redis does not answer"


def test_a_sign_that_cannot_be_read_is_a_problem_and_no_error(redis_server):
    show_life(AT)
    redis_client().set("opscenter:heartbeat:hub", "yesterday")
    assert centre_problem(NOW) != ""


def test_a_problem_is_one_sentence_the_worst_first():
    missing = {
        "hub": "no heartbeat for 75 s",
        "database writes": "takes no writes since 11:59:00 UTC: the disk is full",
        "beat": "not known without the worker",
    }
    assert problem_of(missing) == (
        "Ops Center's database takes no writes since 11:59:00 UTC: the disk is full;"
        " the hub: no heartbeat for 75 s"
    )
    assert problem_of({}) == ""


@pytest.mark.django_db
def test_little_space_is_a_warning(redis_server, settings):
    assert not any("disk space" in line for line in warnings())
    settings.FREE_SPACE_WARNING_BYTES = 10**18
    [warning] = [line for line in warnings() if "disk space" in line]
    assert warning.endswith("MB are free where Ops Center stores its data")


def test_a_proxy_that_the_hub_does_not_trust_is_a_warning_for_ten_minutes(redis_server):
    assert proxy_warnings(AT) == []
    redis_client().set(UNKNOWN_PROXY_KEY, repr(AT - 599))
    [warning] = proxy_warnings(AT)
    assert "OPSCENTER_HUB_TRUSTED_PROXIES" in warning
    assert proxy_warnings(AT + 2) == []


def test_a_full_disk_is_missing(redis_server, monkeypatch):
    show_life()
    monkeypatch.setattr(disk, "NEEDED_BYTES", 10**18)
    assert unproven_parts(time.time()) == {"disk space": "is full"}
    assert centre_problem() == "Ops Center's disk is full"


def test_a_disk_that_cannot_be_read_is_missing(redis_server, settings, tmp_path):
    show_life()
    settings.DATA_DIR = tmp_path / "gone"
    assert unproven_parts(time.time()) == {"disk space": "cannot be read"}


def test_the_disk_that_a_link_leads_to_counts_too(settings, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    settings.METRICS_STORE = "sqlite"
    settings.METRICS_SQLITE_PATH = tmp_path / "metrics.sqlite3"
    settings.METRICS_SQLITE_PATH.symlink_to(tmp_path / "elsewhere" / "metrics.sqlite3")
    assert tmp_path / "elsewhere" in readiness._directories()
