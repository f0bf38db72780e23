"""Series seen on real servers, each file saying what exporters report and what must come of it."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from metrics.series.catalog import FIELD_NAMES
from metrics.series.rows import SeriesKey
from metrics.sources.parse_concurrency import ParseSlot
from metrics.sources.prometheus.source import PrometheusSource
from tests.servers.client import DirectClient
from tests.servers.prometheus import Series, prometheus

FILES = sorted((Path(__file__).parent / "field").glob("*.json"))
MINUTES = 10
pytestmark = pytest.mark.usefixtures("starts_servers")


def series(found: list[dict], start: int) -> list[Series]:
    """Return samples every 30 s, constant or rising."""

    def value(one: dict, at: int) -> float:
        if "value" in one:
            return one["value"]
        return one["from"] + (at - start) * one["per_second"]

    times = range(start, start + MINUTES * 60 + 1, 30)
    return [
        (one["name"], one["labels"], [(float(at), value(one, at)) for at in times]) for one in found
    ]


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
async def test_what_exporters_were_seen_to_report_gives_the_right_values(path, tmp_path):
    case = json.loads(path.read_text(encoding="utf-8"))
    start = int(time.time()) // 3600 * 3600 - 7200
    end = start + MINUTES * 60
    with prometheus(tmp_path, series=series(case["input"]["series"], start)) as port:
        async with DirectClient(port) as client:
            with ParseSlot("live") as slot:
                answer = await PrometheusSource().fetch(
                    client, end - 120, end, now=time.time(), slot=slot
                )
    for check in case["checks"]:
        key = SeriesKey(check["kind"], check.get("ns", ""), check["name"])
        row = max((row for row in answer.rows if row.key == key), key=lambda row: row.ts)
        cell = row.cells[FIELD_NAMES[key.kind].index(check["field"])]
        assert cell is not None
        assert cell.total == check["equals"], check
