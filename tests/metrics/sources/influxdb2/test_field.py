"""Points seen in real buckets, each file saying what Telegraf wrote and what must come of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from metrics.series.catalog import FIELD_NAMES
from metrics.series.rows import SeriesKey
from metrics.series.source_answer import SourceAnswer
from metrics.sources.influxdb2.source import Influx2Source
from metrics.sources.parse_concurrency import ParseSlot
from tests.servers.flux import FluxStandIn, Point

START = 1_750_000_020
MINUTES = 5
FILES = sorted((Path(__file__).parent / "field").glob("*.json"))


def telegraf(rows: list[dict]) -> FluxStandIn:
    """Return a bucket with samples every 20 s, from a minute before the window."""
    points = []
    for second in range(-60, MINUTES * 60, 20):
        for row in rows:
            fields = {
                name: value["from"] + second * value["per_second"]
                if isinstance(value, dict)
                else value
                for name, value in row["fields"].items()
            }
            tags = {"cpu": "cpu-total", **row["tags"]}  # Telegraf writes it of cpu only
            points.append(Point(START + second, row["measurement"], tags, fields))
    return FluxStandIn(points)


async def fetch(bucket: FluxStandIn) -> SourceAnswer:
    end = START + MINUTES * 60
    with ParseSlot("live") as slot:
        return await Influx2Source("org", "bucket").fetch(
            bucket, START, end, now=end + 3600, slot=slot
        )


def newest(answer: SourceAnswer, key: SeriesKey) -> dict[str, int | None]:
    """Return the last minute's values of a series."""
    row = max((row for row in answer.rows if row.key == key), key=lambda row: row.ts)
    names = FIELD_NAMES[key.kind]
    return {
        name: None if cell is None else cell.total
        for name, cell in zip(names, row.cells, strict=True)
    }


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
async def test_what_telegraf_was_seen_to_write_gives_the_right_values(path):
    case = json.loads(path.read_text(encoding="utf-8"))
    answer = await fetch(telegraf(case["input"]["rows"]))
    for check in case["checks"]:
        values = newest(answer, SeriesKey(check["kind"], check.get("ns", ""), check["name"]))
        if "field" in check:
            assert values[check["field"]] == check["equals"], check


async def test_one_card_that_cannot_be_true_does_not_spoil_the_sum_of_the_others():
    def card(name: str, per_second: float) -> dict:
        counter = {"from": 0, "per_second": per_second}
        return {"measurement": "net", "tags": {"host": "box", "interface": name},
                "fields": {"bytes_recv": counter, "bytes_sent": counter}}  # fmt: skip

    answer = await fetch(telegraf([card("eth0", 1000), card("eth1", 1e16)]))
    assert newest(answer, SeriesKey("node", "", "box"))["net_rx_bps"] == 1000
    assert answer.refused == {
        f"node {name} more than any machine has": MINUTES for name in ("net_rx_bps", "net_tx_bps")
    }
