"""What the ``influxdb`` source refuses, each under its own name, and never half.

A server on loopback answers as a real one would, save for one thing.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web

from metrics.series.rows import SeriesKey
from metrics.series.source_answer import SourceAnswer
from metrics.sources.influxdb1.responses import read_edge, read_policies
from metrics.sources.influxdb1.source import InfluxSource
from metrics.sources.parse_concurrency import ParseSlot
from metrics.sources.plausible import plausible
from metrics.sources.row_builder import MAX_SERIES
from opscenter.core.errors import BadResponseError, ClusterError, ServiceUnavailableError
from tests.metrics.sources.hostile import Answer, hostile_server
from tests.servers.client import DirectClient

pytestmark = pytest.mark.usefixtures("starts_servers")
NOW = 1_795_000_200
START, END = NOW - 600, NOW - 480  # two minutes; short, so that every point carries its names
_TIMES = re.compile(r"time >=? (\d+)s AND time <=? (\d+)s")
JSON = "application/json"
CPU = '"cpu/usage_rate" WHERE "type" = \'pod\''

Change = Callable[[dict[str, Any]], object]


def points(times: list[int], grouped: bool) -> dict[str, Any]:
    """Return the series of a pod's CPU."""
    tags = {"namespace_name": "default", "pod_name": "web", "nodename": "n1"}
    if grouped:
        values = [[time, 5] for time in times]
        return {"name": "m", "columns": ["time", "value"], "tags": tags, "values": values}
    columns = ["time", "value", *tags]
    return {"name": "m", "columns": columns, "values": [[t, 5, *tags.values()] for t in times]}


def influxdb(query: str, change: Change) -> dict[str, Any]:
    """Answer every statement; ``change`` may spoil the result that has points."""
    results: list[dict[str, Any]] = []
    for number, statement in enumerate(query.split(";")):
        result: dict[str, Any] = {"statement_id": number}
        if statement.startswith("SHOW RETENTION"):
            columns = ["name", "duration", "shardGroupDuration", "replicaN", "default"]
            rows = [["default", "24h0m0s", "1h0m0s", 1, True]]
            result["series"] = [{"columns": columns, "values": rows}]
        elif "LIMIT 1" in statement:
            moment = NOW - 7200 if "ASC" in statement else NOW - 60
            row = {"columns": ["time", "value"], "values": [[moment, 1]]}
            result["series"] = [{"name": "m", **row}]
        elif CPU in statement:
            found = _TIMES.search(statement)
            assert found
            times = list(range(int(found[1]) + 60, int(found[2]) + 60, 60))
            result["series"] = [points(times, "GROUP BY" in statement)]
            change(result)
        results.append(result)
    return {"results": results}


async def fetch(
    answer: Callable[[str], Answer], start: int = START, end: int = END, **options: Any
) -> SourceAnswer:
    """Ask a server that answers each query with what ``answer`` says."""

    async def answered(request: web.Request) -> Answer:
        return answer(str((await request.post())["q"]))

    async with hostile_server(answered) as port, DirectClient(port, **options) as client:
        with ParseSlot("live") as slot:
            return await InfluxSource().fetch(client, start, end, now=NOW, slot=slot)


async def spoiled(change: Change, start: int = START, end: int = END, **options) -> SourceAnswer:
    def answer(query: str) -> Answer:
        return 200, JSON, json.dumps(influxdb(query, change)).encode()

    return await fetch(answer, start, end, **options)


def series_of(result: dict[str, Any]) -> dict[str, Any]:
    return result["series"][0]


def put(column: int, value: object) -> Change:
    return lambda result: series_of(result)["values"][0].__setitem__(column, value)


@pytest.mark.parametrize("minutes", [2, 10], ids=["names with points", "names with series"])
async def test_an_answer_without_fault_is_taken(minutes):
    answer = await spoiled(lambda _: None, END - 60 * minutes, END)
    assert [row.ts for row in answer.rows if row.key.kind == "pod"] == [
        *range(END - 60 * minutes, END, 60)
    ]
    assert answer.oldest == NOW - 7200 - 60


@pytest.mark.parametrize(
    ("status", "kind", "body", "problem", "error"),
    [
        (401, JSON, b'{"error":"authorization failed"}', "credentials_refused", BadResponseError),
        (403, JSON, b'{"error":"not authorized"}', "forbidden", BadResponseError),
        (404, "text/html", b"<h1>no such page</h1>", "not_found", BadResponseError),
        (400, JSON, b'{"error":"error parsing query"}', "query_refused", BadResponseError),
        (302, "text/html", b"", "redirect", BadResponseError),
        (200, "text/html", b"<html>sign in</html>", "not_json", BadResponseError),
        (200, JSON, b"<html>sign in</html>", "not_json", BadResponseError),
        (200, JSON, b'{"results":[{"statement_id":0,"ser', "not_json", BadResponseError),
        (200, JSON, b'{"results":[{"a":NaN}]}', "not_json", BadResponseError),
        (200, JSON, b'{"results":[{"a":1e999}]}', "not_json", BadResponseError),
        (200, JSON, b"[]", "bad_value", BadResponseError),
        (200, JSON, b'{"results":{}}', "bad_value", BadResponseError),
        (200, JSON, b'{"results":[]}', "cut_off", BadResponseError),
        (200, JSON, b'{"results":[{"statement_id":3}]}', "bad_value", BadResponseError),
        (200, JSON, b'{"error":"query-timeout limit"}', "", ServiceUnavailableError),
        (500, JSON, b'{"error":"engine is closed"}', "server_error", ServiceUnavailableError),
    ],
)
async def test_an_answer_that_is_none_is_named(status, kind, body, problem, error):
    with pytest.raises(error) as refused:
        await fetch(lambda _: (status, kind, body))
    assert getattr(refused.value, "problem", "") == problem


@pytest.mark.parametrize(
    ("problem", "change"),
    [
        ("bad_value", put(1, "5")),
        ("bad_value", put(1, "NaN")),
        ("bad_value", put(1, True)),
        ("bad_value", put(1, [1])),
        ("bad_value", put(1, None)),
        ("bad_value", put(0, None)),
        ("bad_value", put(0, str(START))),
        ("bad_value", put(0, START - 86_400)),
        ("bad_value", lambda result: series_of(result)["values"][-1].__setitem__(0, END + 3600)),
        ("unsorted", lambda result: series_of(result)["values"].reverse()),
        ("duplicate_series", lambda result: result["series"].append(series_of(result))),
        (
            "duplicate_series",
            lambda result: series_of(result)["values"].insert(0, series_of(result)["values"][0]),
        ),
        ("bad_value", lambda result: series_of(result)["values"][0].append(1)),
        ("bad_value", lambda result: series_of(result)["values"].__setitem__(0, "text")),
        ("bad_value", lambda result: series_of(result)["columns"].reverse()),
        ("bad_value", lambda result: result.__setitem__("series", {})),
        ("query_refused", lambda result: result.__setitem__("error", "invalid operation")),
        ("database_missing", lambda result: result.__setitem__("error", "database not found: k8s")),
        ("forbidden", lambda result: result.__setitem__("error", "x not authorized to read")),
    ],
)
@pytest.mark.parametrize("minutes", [2, 10], ids=["names with points", "names with series"])
async def test_one_bad_thing_refuses_the_whole_answer(problem, change, minutes):
    with pytest.raises(BadResponseError) as refused:
        await spoiled(change, END - 60 * minutes, END)
    assert refused.value.problem == problem
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", [7, ["a"], {"a": 1}])
async def test_a_name_that_is_no_text_is_refused(name):
    for minutes, change in (
        (2, put(3, name)),
        (10, lambda result: series_of(result)["tags"].__setitem__("pod_name", name)),
    ):
        with pytest.raises(BadResponseError) as refused:
            await spoiled(change, END - 60 * minutes, END)
        assert refused.value.problem == "bad_name"


async def test_names_lose_what_does_not_print():
    answer = await spoiled(put(3, "we\nb\u202e\x00-0"))
    assert SeriesKey("pod", "default", "web-0") in {row.key for row in answer.rows}


async def test_two_names_that_print_alike_are_one_series_twice():
    def add(result):
        copies = [[*row[:3], "we\nb", row[4]] for row in series_of(result)["values"]]
        rows = series_of(result)["values"]
        series_of(result)["values"] = sorted([*rows, *copies])

    with pytest.raises(BadResponseError, match="default/web") as refused:
        await spoiled(add)
    assert refused.value.problem == "duplicate_series"


@pytest.mark.parametrize("name", ["x" * 254, "\n\n"])
async def test_names_that_are_too_long_or_nothing_are_refused(name):
    with pytest.raises(BadResponseError) as refused:
        await spoiled(put(3, name))
    assert refused.value.problem == "bad_name"


async def test_points_without_a_name_are_left_out_and_counted():
    answer = await spoiled(put(3, None))
    assert answer.ignored == 1
    assert len([row for row in answer.rows if row.key.kind == "pod"]) == 1


@pytest.mark.parametrize("number", [1 << 63, -(1 << 60), 1e300])
async def test_a_number_beyond_what_a_store_holds_is_left_out_and_counted(number):
    answer = plausible(await spoiled(put(1, number)))
    assert sum(answer.refused.values()) == 1


@pytest.mark.parametrize(
    ("message", "whole"),
    [
        ({"level": "warning", "text": "deprecated use of 'x' in a statement"}, True),
        ({"level": "warning", "text": "a data node is away"}, False),
        ({"level": "warning"}, False),
        ("a data node is away", False),
    ],
)
async def test_a_warning_that_a_part_is_missing_refuses_the_answer(message, whole):
    def warn(result):
        result["messages"] = [message]

    if whole:
        assert (await spoiled(warn)).rows
        return
    with pytest.raises(BadResponseError, match="incomplete") as refused:
        await spoiled(warn)
    assert refused.value.problem == "cut_off"


async def test_a_million_series_are_refused_however_they_come():
    def many(result):
        rows = [[START + 60, 1, "ns", f"pod-{n}", "n"] for n in range(MAX_SERIES + 1)]
        series_of(result)["values"] = rows

    def many_groups(result):
        one = series_of(result)
        result["series"] = [one | {"tags": {"pod_name": str(n)}} for n in range(MAX_SERIES + 1)]

    for change, start in ((many, START), (many_groups, END - 600)):
        with pytest.raises(BadResponseError) as refused:
            await spoiled(change, start, END)
        assert refused.value.problem == "too_many_series"


async def test_a_minute_that_never_fits_ends_in_too_many_series():
    asked = []

    def answer(query: str) -> Answer:
        asked.append(query)
        return 200, JSON, b" " * 100_000 + b"{}"

    with pytest.raises(BadResponseError) as refused:
        await fetch(answer, max_bytes=10_000)
    assert refused.value.problem == "too_many_series"
    assert len(asked) < 12


async def test_a_limit_of_the_server_halves_what_is_asked_for():
    def limited(result):
        if len(series_of(result)["values"]) > 2:
            result["series"][0]["partial"] = True

    answer = await spoiled(limited, END - 600, END)
    assert len([row for row in answer.rows if row.key.kind == "pod"]) == 10
    assert (answer.start, answer.end) == (END - 600, END)


async def test_a_break_in_the_middle_keeps_what_was_there_before():
    calls = []

    def answer(query: str) -> Answer:
        if "GROUP BY" in query:
            calls.append(query)
            if len(calls) == 2:
                return 500, JSON, b'{"error":"engine is closed"}'
        return 200, JSON, json.dumps(influxdb(query, lambda _: None)).encode()

    start = END - 3600
    got = await fetch(answer, start, END)
    assert len(calls) == 2
    assert got.end == start + 600
    assert {row.ts for row in got.rows} == set(range(start, got.end, 60))


async def test_nothing_comes_of_a_piece_whose_successor_is_bad():
    def late(result):
        if series_of(result)["values"][0][0] > END - 3000:
            series_of(result)["values"][0][1] = "x"

    with pytest.raises(ClusterError):
        await spoiled(late, END - 3600, END)


def without_a_name(result):
    for row in series_of(result)["values"]:
        row[2] = None


async def test_pods_without_a_namespace_put_nothing_into_any_minute_but_their_node():
    answer = await spoiled(without_a_name)
    assert all(START <= row.ts < END for row in answer.rows)
    assert {row.key.kind for row in answer.rows} <= {"node"}
    assert answer.ignored == 2


async def test_points_without_a_name_between_two_minutes_are_left_out_as_well():
    def odd_times(result):
        without_a_name(result)
        for row in series_of(result)["values"]:
            row[0] -= 7

    answer = await spoiled(odd_times)
    assert (list(answer.rows), answer.ignored) == ([], 2)


async def test_the_clock_is_that_of_the_answers_date():
    before = time.time()
    answer = await spoiled(lambda _: None)
    # Whole seconds, cut off, and half a second added once.
    assert int(before) + 0.5 <= answer.now <= time.time() + 0.5


def test_a_table_of_policies_with_strange_columns_is_refused():
    for columns in ([["name"]], [{}], None, "name"):
        with pytest.raises(BadResponseError):
            read_policies({"series": [{"columns": columns, "values": [["a"]]}]})


@pytest.mark.parametrize("point", [[], [None], [-60], [1 << 40], ["1"]])
def test_an_edge_that_is_no_time_is_refused(point):
    with pytest.raises(BadResponseError):
        read_edge({"series": [{"columns": ["time", "value"], "values": [point]}]})


def test_a_duration_of_thousands_of_digits_is_refused():
    with pytest.raises(BadResponseError):
        read_policies(
            {"series": [{"columns": ["name", "duration"], "values": [["a", "9" * 5000 + "h"]]}]}
        )


async def test_an_error_in_a_good_answer_never_repeats_our_credentials():
    def told(result):
        result["error"] = "what is root:correct-horse, or cm9vdDpjb3JyZWN0LWhvcnNl?"

    headers = {"Authorization": "Basic cm9vdDpjb3JyZWN0LWhvcnNl"}
    with pytest.raises(BadResponseError) as refused:
        await spoiled(told, headers=headers)
    assert "what is ***, or ***?" in str(refused.value)
