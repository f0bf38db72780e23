"""Answers that no honest Prometheus gives: each is refused as a whole, by its own name."""

from __future__ import annotations

import asyncio
import base64
import copy
import time
from typing import Any

import orjson
import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics.series.catalog import FIELD_NAMES
from metrics.series.rollups import LARGEST
from metrics.series.rows import Cell
from metrics.series.source_answer import SourceAnswer
from metrics.sources.parse_concurrency import ParseSlot
from metrics.sources.plausible import plausible
from metrics.sources.prometheus.queries import QUERIES
from metrics.sources.prometheus.responses import read_matrix, read_vector
from metrics.sources.prometheus.source import PrometheusSource
from opscenter.core.errors import BadResponseError, ServiceUnavailableError
from tests.examples import examples
from tests.metrics.sources.hostile import Answer, hostile_server
from tests.metrics.sources.prometheus.seeds import ONE, exporter_of
from tests.metrics.sources.prometheus.world import World
from tests.servers.client import DirectClient
from tests.servers.prometheus import prometheus

pytestmark = pytest.mark.usefixtures("starts_servers")
NOW = int(time.time())
END = NOW // 60 * 60 - 120
START = END - 180
TIMES = range(START + 60, END + 60, 60)
JSON = "application/json"
LOAD = str(next(at for at, query in enumerate(QUERIES) if query.field == "load1_m"))


def good_query(query: str) -> Answer:
    """Return the answer to what is no range: the clock, and nobody known by another name."""
    result = [{"metric": {}, "value": [NOW, str(NOW)]}] if query == "vector(time())" else []
    data = {"resultType": "vector", "result": result}
    return 200, JSON, orjson.dumps({"status": "success", "data": data})


def series(number: str, values: object = None, **labels: object) -> dict[str, Any]:
    """Return one series of a good answer: the load of a machine."""
    points = [[t, str(100 + at)] for at, t in enumerate(TIMES)] if values is None else values
    return {"metric": {"q": number, "instance": "db1:9100", **labels}, "values": points}


def matrix(*result: object) -> dict[str, Any]:
    return {"status": "success", "data": {"resultType": "matrix", "result": list(result)}}


async def fetch(answer: object, kind: str = JSON, status: int = 200) -> SourceAnswer:
    """Fetch from a server that answers well save for what is asked with the load."""
    body = answer if isinstance(answer, bytes) else orjson.dumps(answer)

    async def respond(request: web.Request) -> Answer:
        query = (await request.post())["query"]
        if request.path == "/api/v1/query":
            return good_query(query)
        if "node_load1" not in query:
            return 200, JSON, orjson.dumps(matrix())
        return status, kind, body

    async with hostile_server(respond) as port, DirectClient(port, deadline_seconds=5) as client:
        with ParseSlot("live") as slot:
            return await PrometheusSource().fetch(client, START, END, now=NOW, slot=slot)


async def test_the_good_answer_that_all_the_bad_ones_are_made_from_is_taken():
    good = await fetch(matrix(series(LOAD)))
    assert [row.ts for row in good.rows] == [START, START + 60, START + 120]
    assert {row.key.name for row in good.rows} == {"db1:9100"}


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ([[START + 60, "much"]], "bad_value"),
        ([[START + 60, ""]], "bad_value"),
        ([[START + 60, 5]], "bad_value"),
        ([[START + 60, None]], "bad_value"),
        ([[START + 60, True]], "bad_value"),
        ([[START + 61, "5"]], "bad_value"),
        ([[START, "5"]], "bad_value"),
        ([[END + 60, "5"]], "bad_value"),
        ([["soon", "5"]], "bad_value"),
        ([[[], "5"]], "bad_value"),
        ([[START + 60]], "bad_value"),
        ([[START + 60, "5", "6"]], "bad_value"),
        ([7], "bad_value"),
        ({}, "bad_value"),
        ("5", "bad_value"),
        ([[START + 120, "5"], [START + 60, "5"]], "unsorted"),
        ([[START + 60, "5"], [START + 60, "5"]], "unsorted"),
    ],
)
async def test_values_that_are_none_are_refused_by_name(values: object, problem: str):
    with pytest.raises(BadResponseError) as refused:
        await fetch(matrix(series(LOAD), series(LOAD, values, instance="db2:9100")))
    assert refused.value.problem == problem


@pytest.mark.parametrize("text", ["+Inf", "-Inf", str(LARGEST + 1), "1e300", "9" * 5000])
async def test_a_number_beyond_all_bounds_empties_its_own_cell(text: str):
    values = [[START + 60, text], [START + 120, "7"]]
    answer = plausible(await fetch(matrix(series(LOAD), series(LOAD, values, instance="db2:9100"))))
    at = FIELD_NAMES["node"].index("load1_m")
    found = {(row.key.name, row.ts - START): row.cells[at] for row in answer.rows}
    assert found["db2:9100", 0] is None
    assert found["db2:9100", 60] == Cell(1, 7, 7, 7)
    assert found["db1:9100", 0] == Cell(1, 100, 100, 100)
    assert sum(answer.refused.values()) == 1


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (matrix(series(LOAD), series(LOAD)), "duplicate_series"),
        (matrix(series(LOAD, instance="x" * 300)), "bad_name"),
        (matrix(series(LOAD, instance="x" * 5000)), "bad_name"),
        (matrix(series(LOAD, instance=5)), "bad_name"),
        (matrix(series(LOAD, **{f"l{n}": "" for n in range(100)})), "bad_name"),
        (matrix(series("999")), "bad_value"),
        (matrix(series("cpu")), "bad_value"),
        (matrix(5), "bad_value"),
        (matrix({"metric": {"q": LOAD}}), "bad_value"),
        (matrix({"values": []}), "bad_value"),
        ([], "bad_value"),
        ("prometheus", "bad_value"),
        ({}, "query_refused"),
        ({"status": "success"}, "bad_value"),
        ({"status": "success", "data": []}, "bad_value"),
        ({"status": "success", "data": {"resultType": "vector", "result": []}}, "bad_value"),
        ({"status": "success", "data": {"resultType": "matrix", "result": {}}}, "bad_value"),
        ({"status": "error", "error": "parse\nerror"}, "query_refused"),
        ({**matrix(series(LOAD)), "isPartial": True}, "cut_off"),
    ],
)
async def test_answers_of_a_wrong_shape_are_refused_by_name(answer: object, problem: str):
    with pytest.raises(BadResponseError) as refused:
        await fetch(answer)
    assert refused.value.problem == problem
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("status", "kind", "body", "problem"),
    [
        (401, "text/plain", b"Unauthorized", "credentials_refused"),
        (403, "text/html", b"<h1>Forbidden</h1>", "forbidden"),
        (404, "text/plain", b"404 page not found", "not_found"),
        (200, "text/html", b"<html>Sign in</html>", "not_json"),
        (200, JSON, b"<html>Sign in</html>", "not_json"),
        (200, JSON, orjson.dumps(matrix(series(LOAD)))[:-40], "not_json"),
        (200, JSON, b'{"status":"success","data":NaN}', "not_json"),
        (302, "text/plain", b"", "redirect"),
        (400, JSON, b'{"status":"error","errorType":"bad_data","error":"no"}', "query_refused"),
    ],
)
async def test_what_is_no_answer_is_refused_by_name(
    status: int, kind: str, body: bytes, problem: str
):
    with pytest.raises(BadResponseError) as refused:
        await fetch(body, kind, status)
    assert refused.value.problem == problem


async def test_a_server_in_trouble_is_a_service_that_is_down():
    with pytest.raises(ServiceUnavailableError, match="500"):
        await fetch(b"oops", "text/plain", 500)


async def test_a_million_series_are_refused_however_little_is_asked_for():
    one = b'{"metric":{"q":"%s","instance":"%d"},"values":[]},'
    many = b"".join(one % (LOAD.encode(), number) for number in range(200_000))
    body = b'{"status":"success","data":{"resultType":"matrix","result":[' + many[:-1] + b"]}}"
    assert len(body) > 8_000_000
    with pytest.raises(BadResponseError) as refused:
        await fetch(body)
    assert refused.value.problem == "too_many_series"


async def test_more_series_than_are_accepted_within_the_cap_are_refused_too():
    point = [[START + 60, "5"]]
    many = [series(LOAD, point, instance=str(number)) for number in range(20_001)]
    with pytest.raises(BadResponseError) as refused:
        await fetch(matrix(*many))
    assert refused.value.problem == "too_many_series"


async def test_an_infinite_value_in_a_real_prometheus_is_not_believed(tmp_path):
    world = World(START - 600, 20, 1, ONE)
    world.add("node_load1", exporter_of("db1"), float("inf"), until=NOW - 60)
    with prometheus(tmp_path, series=world.series()) as port:
        async with DirectClient(port) as client:
            with ParseSlot("live") as slot:
                got = await PrometheusSource().fetch(client, START, END, now=NOW, slot=slot)
    assert plausible(got).refused == {"node load1_m more than any machine has": 3}


async def test_labels_with_line_breaks_of_a_real_prometheus_are_cleaned(tmp_path):
    world = World(START - 600, 20, 1, ONE)
    nasty = {"job": "node", "instance": "db\n1\u202e\x07<b>:9100"}
    world.add("node_load1", nasty, 3, until=NOW - 60)
    disk = {**nasty, "device": "/dev/sd\na", "mountpoint": "/da\r\nta", "fstype": "ext4"}
    world.add("node_filesystem_files", disk, 5, until=NOW - 60)
    with prometheus(tmp_path, series=world.series()) as port:
        async with DirectClient(port) as client:
            with ParseSlot("live") as slot:
                got = await PrometheusSource().fetch(client, START, END, now=NOW, slot=slot)
    assert {(info.key.kind, info.key.ns, info.key.name) for info in got.infos} == {
        ("node", "", "db1<b>:9100"), ("filesystem", "db1<b>:9100", "/data"),
    }  # fmt: skip


def test_a_number_that_the_server_did_not_round_is_rounded_here():
    raw = matrix(series(LOAD, [[START + 60, "1.5"], [START + 120, "NaN"], [START + 180, "2e3"]]))
    (line,) = read_matrix(raw, TIMES, most=5)
    assert line.cells == [Cell(1, 2, 2, 2), None, Cell(1, 2000, 2000, 2000)]


def test_a_series_with_holes_has_none_where_they_are():
    raw = matrix(series(LOAD, [[START + 180, "7"]]), series(LOAD, [], instance="b"))
    first, second = read_matrix(raw, TIMES, most=5)
    assert first.cells == [None, None, Cell(1, 7, 7, 7)]
    assert second.cells == [None, None, None]


_JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)
_PATHS = [
    ("status",), ("data",), ("data", "resultType"), ("data", "result"), ("data", "result", 0),
    ("data", "result", 0, "metric"), ("data", "result", 0, "metric", "q"),
    ("data", "result", 0, "metric", "instance"), ("data", "result", 0, "values"),
    ("data", "result", 0, "values", 0), ("data", "result", 0, "values", 0, 0),
    ("data", "result", 0, "values", 0, 1),
]  # fmt: skip
GOOD = matrix(series(LOAD))


@settings(max_examples=examples(300))
@given(st.sampled_from(_PATHS), _JUNK)
def test_junk_anywhere_in_an_answer_is_refused_or_harmless(path: tuple[Any, ...], junk: object):
    raw = copy.deepcopy(GOOD)
    place: Any = raw
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = junk
    for read in (lambda: read_matrix(raw, TIMES, most=5), lambda: read_vector(raw, most=5)):
        try:
            read()
        except BadResponseError as exc:
            assert exc.problem  # noqa: PT017 - either outcome is good


# bcrypt of "correct horse"; cost 4, because it is worked out for each request.
_USERS = """
basic_auth_users:
  ops: $2b$04$wbjloYNwztdDoJ.cfMyHQefiw8JJGh6OtJ2rkt7WjJ8NzH4IIZ7yK
"""


async def test_a_real_prometheus_refuses_wrong_credentials_and_takes_the_right_ones(tmp_path):
    users = tmp_path / "web.yml"
    users.write_text(_USERS, encoding="utf-8")
    world = World(START - 600, 20, 1, ONE)
    world.add("node_load1", exporter_of("db1"), 3, until=NOW - 60)
    options = [f"--web.config.file={users}"]
    with prometheus(tmp_path, series=world.series(), options=options) as port:
        await _ready(port, "ops:correct horse")
        good = await _fetch_as(port, "ops:correct horse")
        assert len(good.rows) == 3
        for pair in ("", "ops:wrong"):
            with pytest.raises(BadResponseError) as refused:
                await _fetch_as(port, pair)
            assert (refused.value.problem, refused.value.status) == ("credentials_refused", 401)


def _as(pair: str) -> dict[str, str]:
    basic = base64.b64encode(pair.encode()).decode()
    return {"Authorization": f"Basic {basic}"} if pair else {}


async def _ready(port: int, pair: str) -> None:
    """Wait until a server answers that asks who we are before it says whether it is ready."""
    async with DirectClient(port, headers=_as(pair)) as client:
        while True:
            try:
                await client.get_text("/-/ready")
            except ServiceUnavailableError:
                await asyncio.sleep(0.05)
            else:
                return


async def _fetch_as(port: int, pair: str) -> SourceAnswer:
    async with DirectClient(port, headers=_as(pair)) as client:
        with ParseSlot("live") as slot:
            return await PrometheusSource().fetch(client, START, END, now=NOW, slot=slot)


async def test_a_server_that_cannot_say_what_is_oldest_still_gives_its_minutes():
    async def respond(request: web.Request) -> Answer:
        form = await request.post()
        if "timestamp(" in form["query"]:
            return 400, JSON, b'{"status":"error","error":"parse error: unexpected character"}'
        if request.path == "/api/v1/query":
            return good_query(form["query"])
        times = range(int(form["start"]), int(form["end"]) + 60, 60)
        one = series(LOAD, [[time, "5"] for time in times])
        return 200, JSON, orjson.dumps(matrix(*([one] if "node_load1" in form["query"] else [])))

    async with hostile_server(respond) as port, DirectClient(port) as client:
        with ParseSlot("live") as slot:
            got = await PrometheusSource().fetch(client, END - 3600, END, now=NOW, slot=slot)
    assert len(got.rows) == 60
    assert got.oldest is None


@pytest.mark.parametrize("text", ["NaN", "-60", "1e300"])
async def test_an_oldest_sample_of_no_time_is_refused(text: str):
    async def respond(request: web.Request) -> Answer:
        form = await request.post()
        if "timestamp(" not in form["query"]:
            return good_query(form["query"])
        found = {"resultType": "vector", "result": [{"metric": {}, "value": [NOW, text]}]}
        return 200, JSON, orjson.dumps({"status": "success", "data": found})

    async with hostile_server(respond) as port, DirectClient(port) as client:
        with ParseSlot("live") as slot, pytest.raises(BadResponseError) as refused:
            await PrometheusSource().fetch(client, END - 3600, END, now=NOW, slot=slot)
    assert refused.value.problem == "bad_value"
