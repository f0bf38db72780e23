"""The charts of a cluster's pages and their tables: gaps, capacity, damage, comparisons."""

from __future__ import annotations

import csv
import io
import time

import orjson
import pytest
from django.urls import reverse

from metrics.series.rows import MinuteRow, SeriesKey
from metrics.stores import get_store
from metrics.stores.writer import Batch
from tests.metrics.stores.sqlite.damage import damage
from tests.opscenter.pages.measured import cells, measure

pytestmark = pytest.mark.django_db


def test_a_chart_has_columns_gaps_and_the_capacity_of_the_node(client, alpha):
    measure(alpha, pod_cpu=900)
    url = f"/clusters/{alpha.pk}/chart/cpu.json?kind=pod&ns=shop&name=cart-1&range=1h"
    figure = orjson.loads(client.get(url).content)
    series = figure["series"][0]
    present = [value for value in series["mean"] if value is not None]
    assert set(present) == {0.9}
    assert len(present) in (29, 30)
    assert set(series["min"]) == {0.899, None}
    assert set(series["max"]) == {0.901, None}
    assert len(series["mean"]) == len(series["min"]) == len(series["max"])
    assert figure["capacity"]["name"] == "capacity of node-1"
    assert figure["gaps"][0]["text"] == "No data: nothing was recorded at the source (lost)"
    assert figure["covered"] in ("29 of 39 minutes", "30 of 40 minutes")  # with the lost ten


def test_a_chart_says_what_is_damaged_in_the_store(client, alpha, settings):
    measure(alpha)
    get_store().maintain(2**32)
    damage(settings.METRICS_SQLITE_PATH)
    url = f"/clusters/{alpha.pk}/chart/cpu.%s?kind=pod&ns=shop&name=cart-1&range=1h"
    figure = orjson.loads(client.get(url % "json").content)
    words = "what was stored is damaged (lost)"
    texts = [gap["text"] for gap in figure.get("gaps", [])]
    assert f"No data: {words}" in texts or words in figure["why"]
    for form in ("csv", "html"):
        assert words in client.get(url % form).content.decode()


def test_inodes_used_are_the_total_less_the_free_ones(client, alpha):
    measure(alpha)
    url = f"/clusters/{alpha.pk}/chart/inodes.json?kind=node&name=node-1&range=1h"
    series = orjson.loads(client.get(url).content)["series"][0]
    assert {value for value in series["mean"] if value is not None} == {60.0}
    assert {value for value in series["max"] if value is not None} == {61.0}


def test_a_chart_is_compared_with_the_day_before(client, alpha):
    measure(alpha)
    day = 86_400
    now = int(time.time()) // 60 * 60
    key = SeriesKey("node", "", "node-1")
    rows = [MinuteRow(now - day - 60 * m, key, cells("node", cpu_mc=600)) for m in range(1, 31)]
    get_store().write(alpha.pk, "agent", Batch(rows))
    url = reverse("chart", args=[alpha.pk, "cpu", "json"])
    asked = f"{url}?kind=node&name=node-1&range=1h"
    assert "before" not in orjson.loads(client.get(asked).content)["series"][0]
    content = orjson.loads(client.get(f"{asked}&compare=day").content)
    assert content["change"] == "day before: +50.0 %"
    before = content["series"][0]["before"]
    drawn = {before["t0"] + i * before["step"]: v for i, v in enumerate(before["values"]) if v}
    assert set(drawn.values()) == {0.6}
    assert max(drawn) == now - 60  # moved by the day, onto the shown range
    content = orjson.loads(client.get(f"{asked}&compare=week").content)
    assert content["change"] == "week before: no data to compare with"
    for odd in ("year", "", "<b>"):
        assert orjson.loads(client.get(f"{asked}&compare={odd}").content)["change"] == ""
    table = client.get(f"{asked}&compare=day".replace(".json", ".html")).content.decode()
    assert "Day before" in table
    assert "600 m" in table
    lines = list(csv.DictReader(io.StringIO(
        client.get(f"{asked}&compare=day".replace(".json", ".csv")).content.decode())))  # fmt: skip
    assert [line["CPU mean (millicores)"] for line in lines if line["range"] == "day before"] == [
        "600"
    ] * 30


def test_the_table_of_a_comparison_finds_former_buckets_of_another_width(client, alpha):
    """Buckets of nine hours do not divide a week: the former ones begin at other moments."""
    key, week, nine_hours = SeriesKey("node", "", "node-1"), 7 * 86_400, 9 * 3600
    end = int(time.time()) // nine_hours * nine_hours - nine_hours
    rows = [MinuteRow(end - back - 60 * m, key, cells("node", cpu_mc=value))
            for back, value in ((0, 900), (week, 600)) for m in range(1, 541)]  # fmt: skip
    get_store().write(alpha.pk, "agent", Batch(rows, head=end))
    span = f"start={end - 90 * 86_400}&end={end}"
    url = reverse("chart", args=[alpha.pk, "cpu", "html"])
    table = client.get(f"{url}?kind=node&name=node-1&{span}&compare=week").content.decode()
    (row,) = [part for part in table.split("<tr")[1:] if "900 m" in part]
    assert "600 m" in row


def test_large_numbers_are_whole_in_a_sheet(client, alpha):
    key, end = SeriesKey("node", "", "node-1"), int(time.time()) // 60 * 60
    used = (64 << 30) + 1
    get_store().write(
        alpha.pk, "agent", Batch([MinuteRow(end - 60, key, cells("node", mem_ws=used))])
    )
    url = reverse("chart", args=[alpha.pk, "memory", "csv"])
    sheet = client.get(f"{url}?kind=node&name=node-1&range=1h").content.decode()
    (line,) = csv.DictReader(io.StringIO(sheet))
    assert [value for name, value in line.items() if name.endswith("(bytes)")] == [
        str(used), str(used - 1), str(used + 1)
    ]  # fmt: skip


def test_the_comparison_stays_in_every_link_of_the_page(client, alpha):
    measure(alpha)
    page = client.get(f"/clusters/{alpha.pk}/?range=1h&compare=week").content.decode()
    assert "vs week before" in page
    assert "?tab=overview&amp;range=24h&amp;compare=week" in page
    assert "tab=nodes&amp;range=1h&amp;compare=week" in page
    assert f"/clusters/{alpha.pk}/chart/cpu.json?kind=cluster&amp;range=1h&amp;compare=week" in page
