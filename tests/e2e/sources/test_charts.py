"""The kind of source of a cluster makes no difference to what pages show of it."""

from __future__ import annotations

import html
import json
import re
from urllib.parse import quote

import pytest

from metrics.series.catalog import FIELD_NAMES
from metrics.series.rows import Cell, SeriesKey
from tests.e2e.centreapi import Pages
from tests.e2e.sources.stand import SETTLE, Installation
from tests.servers.heapster import expected_minutes

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

EVERYWHERE = (
    "cpu_mc", "cpu_cap_mc", "mem_ws", "mem_cap", "fs_used", "fs_cap", "inodes_total",
    "inodes_free", "net_rx_bps", "net_tx_bps", "uptime_s", "nodes_total",
)  # fmt: skip
"""Fields of a cluster that all three sources measure."""

ALIKE = {
    "cpu_cap_mc": 0.0, "mem_cap": 0.0, "fs_cap": 0.02, "fs_used": 0.05, "inodes_total": 0.02,
    "mem_ws": 0.1, "uptime_s": 0.1,
}  # fmt: skip
"""How far two measurements of this machine may be apart: of what moves, and is not rounded."""

OF = {"mem_ws": "mem_cap"}
"""Of what that is a share, if not of itself: other systems start and end within the minute of which
the one sample may be."""


def _cells(here: Installation, name: str, key: SeriesKey, field: str, start: int, end: int):
    query = f"kind={key.kind}&ns={key.ns}&name={key.name}&field={field}&start={start}&end={end}"
    answer = here.range(name, query)
    assert answer["tier"] == "1m", answer
    return {
        t: Cell(1, mean, low, high)
        for t, mean, low, high in zip(
            answer["t"], answer["mean"], answer["min"], answer["max"], strict=True
        )
        if mean is not None
    }


@pytest.mark.parametrize("name", list(SETTLE))
def test_a_cluster_shows_the_charts_that_every_cluster_shows(here, name):
    shown = {cluster: _charts(here, cluster) for cluster in (name, "agent")}
    assert shown[name] == shown["agent"]
    drawn = [panel for panel, chart in shown[name].items() if not chart["empty"]]
    assert drawn == ["cpu", "memory", "filesystem", "inodes", "network"]  # nobody has an etcd


def _charts(here: Installation, name: str) -> dict[str, dict[str, object]]:
    """Return the charts of a cluster's page by panel: the names of their lines, if any is drawn."""
    pages = Pages(here.centre)
    page = pages.get(f"/clusters/{here.clusters[name]}/")
    found = {}
    for source in re.findall(r'data-src="([^"]+)"', page):
        content = json.loads(pages.get(html.unescape(source)))
        panel = source.partition("/chart/")[2].partition(".")[0]
        lines = [line["name"] for line in content["series"]]
        found[panel] = {"lines": lines, "empty": content["empty"]}
    return found


@pytest.mark.parametrize("name", list(SETTLE))
def test_every_field_of_a_cluster_that_charts_need_has_data(here, name):
    end = here.as_of(name)
    for field in EVERYWHERE:
        cells = _cells(here, name, SeriesKey("cluster", "", ""), field, end - 120, end)
        assert cells, f"{field} of {name} has no data"


def test_prometheus_and_our_agent_agree_about_this_machine(here):
    end = min(here.as_of("prometheus"), here.as_of("agent"))
    whole = SeriesKey("cluster", "", "")
    for field, tolerance in ALIKE.items():
        theirs = _cells(here, "prometheus", whole, field, end - 120, end)
        ours = _cells(here, "agent", whole, field, end - 120, end)
        scale = _cells(here, "agent", whole, OF.get(field, field), end - 120, end)
        both = theirs.keys() & ours.keys()
        assert both, field
        for ts in both:
            apart = abs(theirs[ts].total - ours[ts].total)
            assert apart <= tolerance * scale[ts].total, (field, theirs[ts], ours[ts])


def test_every_number_of_influxdb_is_the_one_that_was_written(stand, here):
    start, end = stand.servers.first, here.as_of("heapster")
    assert end - start >= 28 * 60
    wanted: dict[tuple[SeriesKey, str], dict[int, int]] = {}
    for (ts, key), cells in expected_minutes(start, end).items():
        for field, cell in zip(FIELD_NAMES[key.kind], cells, strict=True):
            if cell is not None:
                wanted.setdefault((key, field), {})[ts] = cell.total
    wrong = []
    for (key, field), minutes in wanted.items():
        quoted = SeriesKey(key.kind, quote(key.ns), quote(key.name))
        held = _cells(here, "heapster", quoted, field, start, end)
        if {ts: round(cell.total) for ts, cell in held.items()} != minutes:
            wrong.append((key, field, held, minutes))
    assert wrong == []


@pytest.mark.parametrize("name", list(SETTLE))
def test_a_cut_leaves_no_gap_and_no_duplicate(here, name):
    end = here.as_of(name)
    assert end >= int(here.restored_at - SETTLE[name]) // 60 * 60
    start = end - 1200
    answer = here.range(name, f"kind=cluster&ns=&name=&field=nodes_total&start={start}&end={end}")
    times = [t for t, mean in zip(answer["t"], answer["mean"], strict=True) if mean is not None]
    assert times == list(range(times[0], end, 60))
    assert times[0] <= here.cut_at - 60 - SETTLE[name]
    lines = here.api.windows(here.clusters[name])
    assert {line["state"] for line in lines} == {"done"}
    assert all(line["got_minutes"] == line["expected_minutes"] for line in lines), lines
    assert any(line["reason"] == "tunnel_down" and line["filled_at"] for line in lines), lines


def test_both_stores_give_the_same_numbers(stand):
    if len(stand.centres) < 2:
        pytest.skip("OPSCENTER_TEST_INFLUXDB_URL names no InfluxDB 2 to test with")
    sqlite, influxdb = stand.centres["sqlite"], stand.centres["influxdb"]
    for name in ("heapster", "prometheus"):  # two agents of one machine measure apart
        end = min(one.as_of(name) for one in (sqlite, influxdb)) - 120
        start = end - 120 if name == "prometheus" else stand.servers.first
        for field in FIELD_NAMES["cluster"]:
            query = f"kind=cluster&ns=&name=&field={field}&start={start}&end={end}"
            one, other = sqlite.range(name, query), influxdb.range(name, query)
            for column in ("t", "mean", "min", "max"):
                assert one[column] == other[column], (name, field, column)
