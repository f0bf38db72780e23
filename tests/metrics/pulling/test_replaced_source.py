"""A source that is replaced, before and while it answers: no minute is counted twice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from django.db import connection

from clusters.models import Cluster
from metrics.connections.config import read_config, remove_source, save_source
from metrics.models import PullSchedule
from metrics.pulling.backfill import backfill_cluster
from metrics.pulling.stream import CLUSTER_KEY
from metrics.stores import get_store
from opscenter.core.errors import ServiceUnavailableError
from tests.metrics.pulling.outages import HOUR, T0, fill, pull, schedule_of
from tests.metrics.pulling.scripted import (
    NODES,
    ScriptedSource,
    answer_as,
    nowhere,
    value,
)


class RenamingSource(ScriptedSource):
    """Has the same nodes as the other source, by other names."""

    def _minutes(self, start, end, now):
        answer = super()._minutes(start, end, now)
        rows = [
            row._replace(key=row.key._replace(name=f"{row.key.name}.example:9100"))
            for row in answer.rows
        ]
        object.__setattr__(answer, "rows", sorted(rows))
        return answer


@pytest.fixture
def other(monkeypatch, source) -> RenamingSource:
    one = RenamingSource(born=T0)
    answer_as(monkeypatch, "prometheus", one)
    return one


def assert_every_minute_once(cluster: Cluster, start: int, end: int) -> None:
    columns = get_store().read(cluster.pk, CLUSTER_KEY, "cpu_mc", "1m", start, end)
    assert columns.t == list(range(start, end, 60))
    assert columns.total == [sum(value(name, t) for name in NODES) for t in columns.t]


def test_a_change_of_source_counts_no_minute_twice(site, source, other, admin):
    start = T0 + 2 * HOUR
    for now in range(start, start + HOUR, 60):
        pull(site, now + 100)
    fill(site, start + HOUR)
    save_source(site, read_config("prometheus"), actor=admin)
    site.refresh_from_db()
    for now in range(start + HOUR, start + 3 * HOUR, 60):
        assert pull(site, now + 100).outcome == "ok"
        if now % 600 == 0:
            backfill_cluster(site.pk, now + 101, connect=nowhere)
    assert_every_minute_once(site, T0, start + 3 * HOUR - 120)
    remove_source(site, actor=admin)


def replace_while_asked(monkeypatch, source: ScriptedSource, then: Callable[[], object]) -> None:
    """Do something once, while ``source`` is asked."""
    original, waiting = ScriptedSource.fetch, [then]

    async def fetch(self, client, start, end, **more):
        if self is source and waiting:
            await asyncio.to_thread(in_thread, waiting.pop())
        return await original(self, client, start, end, **more)

    monkeypatch.setattr(ScriptedSource, "fetch", fetch)


def in_thread(work: Callable[[], object]) -> None:
    try:
        work()
    finally:
        connection.close()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("first", [True, False], ids=["the first pull", "a later pull"])
def test_a_source_that_is_replaced_while_it_is_pulled_counts_no_minute_twice(
    site, source, other, admin, monkeypatch, first
):
    start = T0 + 2 * HOUR
    for now in range(start, start + (0 if first else 600), 60):
        assert pull(site, now + 100).outcome == "ok"
    at = start + 600

    def replace() -> None:
        moment = datetime.fromtimestamp(at + 100.5, UTC)
        save_source(site, read_config("prometheus"), actor=admin, now=moment)

    replace_while_asked(monkeypatch, source, replace)
    result = pull(site, at + 100)
    assert (result.outcome, result.code) == ("skipped", "source_replaced")
    for now in range(at, at + 1200, 60):
        assert pull(site, now + 101).outcome == "ok"
    fill(site, at + 1200)
    assert_every_minute_once(site, T0 + HOUR, at + 1080)


@pytest.mark.django_db(transaction=True)
def test_a_source_that_is_replaced_while_it_fills_a_gap_counts_no_minute_twice(
    site, source, other, admin, monkeypatch
):
    start = T0 + 2 * HOUR
    for now in range(start, start + 600, 60):
        assert pull(site, now + 100).outcome == "ok"
    fill(site, start + 700)
    source.error = ServiceUnavailableError("away")
    for now in range(start + 600, start + 2400, 60):
        pull(site, now + 100)
    source.error = None
    at = start + 2400
    assert pull(site, at + 100).gaps_open

    def replace() -> None:
        moment = datetime.fromtimestamp(at + 100.5, UTC)
        save_source(site, read_config("prometheus"), actor=admin, now=moment)

    replace_while_asked(monkeypatch, source, replace)
    result = backfill_cluster(site.pk, at + 100, connect=nowhere)
    assert result.error == "source_replaced"
    fill(site, at + 102)
    for now in range(at + 60, at + 600, 60):
        assert pull(site, now + 101).outcome == "ok"
    assert_every_minute_once(site, T0 + HOUR, at + 480)


def test_a_run_for_an_agent_ends_what_was_due_of_another_source(site, source, admin):
    source.born = T0 + 2 * HOUR - 300
    pull(site, T0 + 2 * HOUR)
    remove_source(site, actor=admin)
    PullSchedule.objects.update(recheck_due_at=datetime.fromtimestamp(T0, UTC))
    backfill_cluster(site.pk, T0 + 2 * HOUR, connect=nowhere)
    assert schedule_of(site).recheck_due_at is None
