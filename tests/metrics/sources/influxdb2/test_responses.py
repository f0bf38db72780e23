"""What the ``influxdb2`` source refuses, each under its own name, and never half."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from aiohttp import web

from metrics.series.catalog import FIELD_NAMES
from metrics.series.rows import Cell, SeriesKey
from metrics.series.source_answer import SourceAnswer
from metrics.sources.influxdb2.queries import minutes_query
from metrics.sources.influxdb2.source import Influx2Source
from metrics.sources.parse_concurrency import ParseSlot
from metrics.sources.row_builder import MAX_SERIES
from opscenter.core.errors import BadResponseError, ServiceUnavailableError
from tests.metrics.sources.hostile import Answer, hostile_server
from tests.servers.client import DirectClient

pytestmark = pytest.mark.usefixtures("starts_servers")
NOW = 1_795_000_200  # 2026-11-18 11:10 UTC
START, END = NOW - 600, NOW - 480
AT, NEXT = "2026-11-18T11:00:00Z", "2026-11-18T11:01:00Z"
CSV, JSON = "text/csv; charset=utf-8", "application/json"
HEADER = ",result,table,_time,namespace,pod_name,node_name,container_name,memory_rss_bytes"
ROW = f",container,0,{AT},default,web,n1,main,"


def csv_of(*rows: str, header: str = HEADER) -> str:
    return "\r\n".join([header, *rows, "", ""])


async def fetch(answer: str | Callable[[str], Answer], **options) -> SourceAnswer:
    async def answered(request: web.Request) -> Answer:
        if isinstance(answer, str):
            return 200, CSV, answer.encode()
        return answer(await request.text())

    async with hostile_server(answered) as port, DirectClient(port, **options) as client:
        with ParseSlot("live") as slot:
            return await Influx2Source("o", "b").fetch(client, START, END, now=NOW, slot=slot)


def rss(answer: SourceAnswer) -> dict[tuple[int, SeriesKey], Cell | None]:
    position = FIELD_NAMES["pod"].index("mem_rss")
    return {(r.ts, r.key): r.cells[position] for r in answer.rows if r.key.kind == "pod"}


async def test_an_answer_without_fault_is_taken():
    answer = await fetch(csv_of(ROW + "7", ROW.replace(AT, NEXT) + "8.5"))
    pod = SeriesKey("pod", "default", "web")
    assert rss(answer) == {
        (START, pod): Cell(1, 7, 7, 7),
        (START + 60, pod): Cell(1, 9, 9, 9),
    }


@pytest.mark.parametrize(
    ("status", "kind", "body", "problem", "error"),
    [
        (401, JSON, b'{"code":"unauthorized"}', "credentials_refused", BadResponseError),
        (403, JSON, b'{"code":"forbidden"}', "forbidden", BadResponseError),
        (404, "text/html", b"<h1>no such page</h1>", "not_found", BadResponseError),
        (
            404,
            JSON,
            b'{"code":"not found","message":"could not find bucket \\"b\\""}',
            "database_missing",
            BadResponseError,
        ),
        (400, JSON, b'{"message":"compilation failed"}', "query_refused", BadResponseError),
        (200, "text/html", b"<html>sign in</html>", "not_json", BadResponseError),
        (200, CSV, b'{"results":[]}', "not_json", BadResponseError),
        (200, CSV, b"error,reference\r\nquery terminated: reached maximum allowed memory,897\r\n",
         "query_refused", BadResponseError),
        (500, JSON, b'{"message":"internal"}', "server_error", ServiceUnavailableError),
    ],
)  # fmt: skip
async def test_an_answer_that_is_none_is_named(status, kind, body, problem, error):
    with pytest.raises(error) as refused:
        await fetch(lambda _: (status, kind, body))
    assert getattr(refused.value, "problem", "") == problem


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        ("bad_value", csv_of(ROW + "seven")),
        ("bad_value", csv_of(ROW + "NaN")),
        ("bad_value", csv_of(ROW.replace(AT, "yesterday") + "7")),
        ("bad_value", csv_of(ROW.replace(AT, "2026-11-18T11:00:00") + "7")),
        ("bad_value", csv_of(ROW.replace(AT, "2026-11-18T10:00:00Z") + "7")),
        ("bad_value", csv_of(ROW.replace(AT, "2026-11-18T12:00:00Z") + "7")),
        ("bad_value", csv_of(ROW + "7", header=HEADER.replace("_time", "time"))),
        ("bad_value", csv_of(ROW + "7", ROW.replace("container,", "pod_net,") + "7")),
        ("cut_off", csv_of(ROW + "7", ROW.replace(",main,", ""))),
        ("cut_off", f"{HEADER}\r\n{ROW}7\r\n,container,0,2026-11"),
        ("cut_off", f"{HEADER}\r\n{ROW}7\r\n"),
        ("bad_name", csv_of(ROW.replace("web", "x" * 254) + "7")),
        ("bad_name", csv_of(ROW.replace("web", '"\n"') + "7")),
        ("duplicate_series", csv_of(ROW + "7", ROW.replace("web", '"w\neb"') + "7")),
        ("cut_off", csv_of(ROW + "7") + "error,reference\r\nout of memory,\r\n"),
        ("cut_off", csv_of(ROW + "7") + ",error,reference,\r\n,out of memory,1,\r\n"),
    ],
)
async def test_one_bad_thing_refuses_the_whole_answer(problem, text):
    with pytest.raises(BadResponseError) as refused:
        await fetch(text)
    assert refused.value.problem == problem
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("text", ["+Inf", "-Inf", "1e999", "-4096"])
async def test_a_container_that_cannot_be_is_left_out_of_its_pod(text):
    answer = await fetch(csv_of(ROW + text, ROW.replace("main", "side") + "7"))
    assert list(rss(answer).values()) == [Cell(1, 7, 7, 7)]
    assert sum(answer.refused.values()) == 1


async def test_the_order_of_points_does_not_matter():
    rows = [ROW + "7", ROW.replace(AT, NEXT) + "8", ROW.replace("web", "db") + "9"]
    assert rss(await fetch(csv_of(*rows))) == rss(await fetch(csv_of(*reversed(rows))))


async def test_names_lose_what_does_not_print():
    answer = await fetch(csv_of(ROW.replace("web", '"we\nb,""\u202e0"') + "7"))
    assert [key for _, key in rss(answer)] == [SeriesKey("pod", "default", 'web,"0')]


async def test_a_pod_without_a_name_is_left_out_and_counted():
    answer = await fetch(csv_of(ROW + "7", ROW.replace("web", "") + "7"))
    assert len(rss(answer)) == 1
    assert answer.ignored == 1


async def test_a_million_series_are_refused():
    rows = [ROW.replace("web", f"web-{number}") + "7" for number in range(MAX_SERIES + 1)]
    with pytest.raises(BadResponseError) as refused:
        await fetch(csv_of(*rows))
    assert refused.value.problem == "too_many_series"


async def test_a_minute_that_never_fits_ends_in_too_many_series():
    with pytest.raises(BadResponseError) as refused:
        await fetch(csv_of(*[ROW + "7"] * 100), max_bytes=1000)
    assert refused.value.problem == "too_many_series"


@pytest.mark.parametrize("bucket", ['"', "${x}", '") |> drop()', "\\", "\n"])
def test_nothing_of_a_buckets_name_is_in_the_query(bucket):
    plain = minutes_query("plain", START, END, before=120, now=NOW)
    odd = minutes_query(bucket, START, END, before=120, now=NOW)
    assert odd["query"] == plain["query"]
    (named,) = [
        part["assignment"]["init"]["value"]
        for part in odd["extern"]["body"]
        if part["assignment"]["id"]["name"] == "bucket"
    ]
    assert named == bucket


async def test_the_clock_is_that_of_the_answers_date():
    before = time.time()
    answer = await fetch(csv_of(ROW + "7"))
    # Whole seconds, cut off, and half a second added once.
    assert int(before) + 0.5 <= answer.now <= time.time() + 0.5


async def test_a_processor_that_is_not_a_number_is_not_idle():
    header = ",result,table,_time,host,usage_idle,usage_iowait"
    system = ",result,table,_time,host,load1,uptime,n_cpus"
    text = csv_of(f",cpu,0,{AT},n1,NaN,0", header=header)
    text += csv_of(f",system,0,{AT},n1,0.5,7,4", header=system)
    with pytest.raises(BadResponseError) as refused:
        await fetch(text)
    assert refused.value.problem == "bad_value"
