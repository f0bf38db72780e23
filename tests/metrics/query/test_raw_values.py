"""Zoom to raw: live through a gateway, from the agent's real API; what goes wrong has a name."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from datetime import UTC, datetime

import orjson
import pytest
from django.test import Client
from rest_framework.test import APIClient

from agent.api.app import AgentFacts, make_app
from agent.samples import make_sample
from agent.spool.spool import Spool
from clusters.models import ClusterStatus
from metrics import query
from metrics.query import raw_values
from metrics.series.catalog import FIELD_NAMES
from metrics.series.rows import Cell, MinuteRow, SeriesInfo, SeriesKey
from metrics.stores import get_store
from metrics.stores.writer import Batch
from opscenter.core.budgets import BudgetError
from opscenter.core.errors import (
    ClusterUnreachableError,
    InvalidInputError,
    ServiceUnavailableError,
)
from tests.factories import UserFactory, api_token

NODE = SeriesKey("node", "", "n1")
NOW = int(datetime.now(UTC).timestamp()) // 60 * 60
START = NOW - 600


@pytest.fixture
def far(stand, pullable, tmp_path):
    """An agent that sampled a node every 15 s of the last ten minutes: 0, 1, 2 and so on."""
    spool = stand.run(Spool.open(tmp_path / "spool.sqlite3"))
    for step in range(40):
        sample = make_sample("node", "n1", {"cpu_mc": step, "ready": 1})
        stand.run(spool.add(START + 15 * step, [sample]))
    app = make_app(spool, AgentFacts(kind="host", hostname="far"), now=lambda: NOW + 5)
    stand.serve(pullable, app)
    yield pullable
    stand.run(spool.close())


def test_the_agent_gives_its_minutes_and_nothing_is_stored(far):
    answer = query.raw(far, NODE, "cpu_mc", START + 30, NOW, now=NOW + 5)
    assert answer.t == [START + 60 * m for m in range(10)]
    assert answer.v == [4 * m + 1.5 for m in range(10)]
    assert answer.step == 60
    assert query.raw(far, SeriesKey("pod", "a", "b"), "cpu_mc", START, NOW, now=NOW).t == []
    assert list(get_store().clusters()) == []


def test_what_cannot_be_true_is_left_out_by_the_capacity_that_is_stored(far):
    """The agent's values rise to 39 thousandths of a CPU; the node has 10."""
    capacity = FIELD_NAMES["node"].index("cpu_cap_mc")
    cells: list[Cell | None] = [None] * len(FIELD_NAMES["node"])
    cells[capacity] = Cell(1, 10, 10, 10)
    row = MinuteRow(START - 60, NODE, tuple(cells))
    get_store().write(far.pk, "agent", Batch(rows=[row], infos=[SeriesInfo(NODE)]))
    answer = query.raw(far, NODE, "cpu_mc", START, NOW, now=NOW + 5)
    assert answer.v == [4 * m + 1.5 for m in range(5)]
    assert answer.t == [START + 60 * m for m in range(5)]


def test_what_cannot_be_asked_is_refused_before_anybody_is_asked(far, stand):
    for key, field, start, end, says in (
        (SeriesKey("cluster", "", ""), "cpu_mc", START, NOW, "kind"),
        (NODE, "restarts", START, NOW, "field"),
        (NODE, "cpu_mc", NOW, START, "end"),
        (NODE, "cpu_mc", NOW - 7 * 3600, NOW, "limited to 6 hours"),
    ):
        with pytest.raises(InvalidInputError, match=says):
            query.raw(far, key, field, start, end, now=NOW)
    assert far.pk not in stand.connections


def test_a_tunnel_that_is_down_is_named_with_its_time(far):
    since = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
    ClusterStatus.objects.filter(cluster=far).update(
        tunnel_up=False, tunnel_since=since, tunnel_reason="keepalive time-out"
    )
    far.current.refresh_from_db()
    with pytest.raises(ClusterUnreachableError, match="since 2026-01-02 03:04 UTC: keepalive"):
        query.raw(far, NODE, "cpu_mc", START, NOW, now=NOW)


def test_a_service_that_is_silent_ends_with_the_deadline(stand, pullable, monkeypatch):
    async def silent(reader, writer):
        await reader.read()

    stand.serve_raw(pullable, silent)
    monkeypatch.setattr(raw_values, "DEADLINE_SECONDS", 0.2)
    with pytest.raises(ServiceUnavailableError, match=r"within 0\.2 s"):
        query.raw(pullable, NODE, "cpu_mc", START, NOW, now=NOW)


@pytest.fixture
def held():
    """Queries that are under way, for as long as the test runs."""
    with ExitStack() as stack:
        yield lambda **holders: stack.enter_context(raw_values.LIVE_QUERIES.hold(**holders))


def test_a_cluster_that_never_answers_delays_no_other_one(far, held):
    for number in range(16):
        held(cluster=f"silent {number}")
    assert query.raw(far, NODE, "cpu_mc", START, NOW, now=NOW, user=1).step == 60


def test_a_user_who_asks_for_many_delays_nobody_else(far, held, monkeypatch):
    monkeypatch.setattr(raw_values, "DEADLINE_SECONDS", 5.0)
    held(user=1, cluster="a")
    held(user=1, cluster="b")
    assert query.raw(far, NODE, "cpu_mc", START, NOW, now=NOW, user=2).step == 60
    monkeypatch.setattr(raw_values, "DEADLINE_SECONDS", 0.2)
    with pytest.raises(BudgetError, match="too many live queries to clusters at once: at most 2"):
        query.raw(far, NODE, "cpu_mc", START, NOW, now=NOW, user=1)


def test_a_cluster_is_asked_one_question_at_once_and_the_page_says_so(far, held, monkeypatch):
    monkeypatch.setattr(raw_values, "DEADLINE_SECONDS", 0.2)
    held(cluster=far.pk)
    browser = Client()
    browser.force_login(UserFactory(groups=["operators"]))
    chart = f"/clusters/{far.pk}/chart/cpu.raw?kind=node&name=n1&start={START}&end={NOW}"
    content = orjson.loads(browser.get(chart).content)
    assert "at most 1 for one cluster" in content["error"]


def test_the_api_and_the_page_give_the_values_or_the_reason(far):
    user = UserFactory(groups=["operators"])
    api, browser = APIClient(), Client()
    api.credentials(HTTP_AUTHORIZATION=f"Token {api_token(user)}")
    browser.force_login(user)
    asked = f"kind=node&name=n1&field=cpu_mc&start={START}&end={NOW}"
    body = api.get(f"/api/v1/clusters/{far.pk}/raw?{asked}").json()
    assert (body["unit"], body["step"], len(body["t"]), body["v"][0]) == ("millicores", 60, 10, 1.5)
    file = api.get(f"/api/v1/clusters/{far.pk}/raw?{asked}&format=csv").content.decode()
    assert file.splitlines()[1].startswith("north-1,node,,n1,cpu_mc,millicores,")
    chart = f"/clusters/{far.pk}/chart/cpu.raw?kind=node&name=n1&start={START}&end={NOW}"
    content = orjson.loads(browser.get(chart).content)
    assert content["lines"][0]["v"][:2] == [1.5, 5.5]
    assert "the agent keeps the mean" in content["note"]
    content = orjson.loads(browser.get(chart.replace("cpu.raw", "inodes.raw")).content)
    assert "two measures" in content["error"]
    ClusterStatus.objects.filter(cluster=far).update(tunnel_up=False)
    assert "is down" in orjson.loads(browser.get(chart).content)["error"]
    refused = api.get(f"/api/v1/clusters/{far.pk}/raw?{asked}")
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "tunnel_down")


def test_it_works_beside_a_running_event_loop(far):
    async def page():
        return await asyncio.to_thread(query.raw, far, NODE, "cpu_mc", START, NOW, now=NOW)

    far.current.tunnel_up = True
    assert len(asyncio.run(page()).t) == 10
