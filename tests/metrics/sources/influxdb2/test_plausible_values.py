"""Inputs from other people's machines, as rows of an InfluxDB 2 that Telegraf writes to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from aiohttp import web

from metrics.series.rows import SeriesKey
from metrics.series.source_answer import SourceAnswer
from metrics.sources.influxdb2.queries import STREAMS
from metrics.sources.influxdb2.source import Influx2Source
from metrics.sources.parse_concurrency import ParseSlot
from metrics.sources.plausible import plausible
from tests.metrics.sources import field
from tests.metrics.sources.hostile import Answer, hostile_server
from tests.servers.client import DirectClient

pytestmark = pytest.mark.usefixtures("starts_servers")
NOW = 1_795_000_200  # 2026-11-18 11:10 UTC
START, END = NOW - 600, NOW - 480
TIMES = ("2026-11-18T11:00:00Z", "2026-11-18T11:01:00Z")


def csv_of(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the streams of rows: measurement, tags and fields, the same in each minute."""
    blocks = []
    for stream in STREAMS:
        lines = [
            ["", stream.name, "0", time, *(row["tags"].get(tag, "") for tag in stream.tags),
             *(str(row["fields"].get(name, "")) for name in stream.fields)]
            for row in rows
            if row["measurement"] == stream.measurement
            and any(name in row["fields"] for name in stream.fields)
            for time in TIMES
        ]  # fmt: skip
        if lines:
            header = ["", "result", "table", "_time", *stream.tags, *stream.fields]
            blocks.append("\r\n".join([",".join(line) for line in (header, *lines)] + ["", ""]))
    return "".join(blocks)


async def fetch(rows: Sequence[Mapping[str, Any]]) -> SourceAnswer:
    async def answered(request: web.Request) -> Answer:
        del request
        return 200, "text/csv; charset=utf-8", csv_of(rows).encode()

    async with hostile_server(answered) as port, DirectClient(port) as client:
        with ParseSlot("live") as slot:
            source = Influx2Source("o", "b")
            return plausible(await source.fetch(client, START, END, now=NOW, slot=slot))


@pytest.mark.parametrize("name", ["idle-below-zero", "idle-above-hundred"])
async def test_a_percentage_that_cannot_be_leaves_the_cpu_empty(name):
    wanted = field.load(name)
    answer = await fetch(wanted["input"]["rows"])
    field.check(answer, wanted)
    assert field.values(answer, "node", "", "box", "cpu_mc") == [None, None]
    assert field.values(answer, "node", "", "box", "mem_ws") == [2_147_483_648] * 2
    assert sum(answer.refused.values()) == 2


async def test_one_bad_container_does_not_spoil_a_pod():
    tags = {"namespace": "shop", "pod_name": "web-0", "node_name": "n1"}
    rows = [
        {"measurement": "kubernetes_pod_container", "tags": {**tags, "container_name": name},
         "fields": {"cpu_usage_nanocores": cores, "memory_rss_bytes": rss}}
        for name, cores, rss in (("a", 5.2e18, -4096.0), ("b", 300e6, 7.0))
    ]  # fmt: skip
    answer = await fetch(rows)
    assert field.values(answer, "pod", "shop", "web-0", "cpu_mc") == [300, 300]
    assert field.values(answer, "pod", "shop", "web-0", "mem_rss") == [7, 7]
    assert answer.refused == {
        "pod cpu_mc more than any machine has": 2,
        "pod mem_rss below zero": 2,
    }


async def test_one_bad_container_does_not_spoil_a_chart():
    header = ",result,table,_time,namespace,pod_name,container_name,memory_rss_bytes"
    rows = [f",samples,0,{TIMES[0]},shop,web-0,{name},{rss}" for name, rss in (("a", -9), ("b", 7))]

    async def answered(request: web.Request) -> Answer:
        del request
        return 200, "text/csv", "\r\n".join([header, *rows, "", ""]).encode()

    async with hostile_server(answered) as port, DirectClient(port) as client:
        key = SeriesKey("pod", "shop", "web-0")
        raw = await Influx2Source("o", "b").raw(client, key, "mem_rss", START, END, now=NOW)
    assert list(raw.v) == [7]
