"""The Prometheus source against a real Prometheus and a real VictoriaMetrics."""

from __future__ import annotations

import asyncio
import os
import platform
import time
from pathlib import Path

import pytest

from metrics.series.catalog import FIELD_NAMES
from metrics.series.rows import MinuteRow, SeriesKey
from metrics.series.source_answer import SourceAnswer
from metrics.sources.parse_concurrency import ParseSlot
from metrics.sources.prometheus.batches import Plan
from metrics.sources.prometheus.client import PrometheusApi
from metrics.sources.prometheus.node_names import Facts
from metrics.sources.prometheus.queries import targets_expr
from metrics.sources.prometheus.responses import read_matrix
from metrics.sources.prometheus.rows import Slice
from metrics.sources.prometheus.source import PrometheusSource
from opscenter.core.errors import BadResponseError, ClusterUnreachableError
from tests.metrics.sources.prometheus.seeds import MINUTES, OUTAGE, Seeds
from tests.metrics.sources.prometheus.world import (
    MINUTE,
    Expected,
    VictoriaMetrics,
    running_prometheus,
)
from tests.servers.client import DirectClient
from tests.servers.node_exporter import node_exporter
from tests.servers.prometheus import prometheus

pytestmark = pytest.mark.usefixtures("starts_servers")
Values = dict[tuple[int, SeriesKey], dict[str, int]]


async def fetch(port: int, start: int, end: int, **options: object) -> SourceAnswer:
    async with DirectClient(port) as client:
        source = PrometheusSource(**options)
        with ParseSlot("live") as slot:
            return await source.fetch(client, start, end, now=time.time(), slot=slot)


def values_of(answer: SourceAnswer) -> Values:
    """Return every value of an answer; each is one sample's minute, and no row comes twice."""
    found: Values = {}
    for row in answer.rows:
        names = FIELD_NAMES[row.key.kind]
        there = {n: c for n, c in zip(names, row.cells, strict=True) if c is not None}
        assert all(c.n == 1 and c.total == c.low == c.high for c in there.values())
        assert (row.ts, row.key) not in found
        found[row.ts, row.key] = {name: cell.total for name, cell in there.items()}
    return found


def differences(found: Values, expected: Expected) -> list[str]:
    """Return one line for each number that is missing, too many, or not the rounded true one."""
    lines = []
    for at in sorted(found.keys() | expected.keys()):
        have, want = found.get(at, {}), expected.get(at, {})
        for name in sorted(have.keys() | want.keys()):
            one, true = have.get(name), want.get(name)
            if (
                one is None
                or true is None
                or abs(one - true) > 0.5 + 1e-6 * max(1, abs(true) * 1e-6)
            ):
                lines.append(f"{at[0] // 60 % 1440} {at[1]} {name}: {one} instead of {true}")
    return lines


@pytest.mark.parametrize("name", ["modern", "legacy", "machines"])
async def test_every_number_of_an_hour_is_the_true_one(
    name: str, known: Seeds, seeded_prometheus: int
):
    world, oracle = known.oracle(name, running_prometheus())
    start, end = world.start + 5 * MINUTE, world.start + MINUTES * MINUTE
    answer = await fetch(seeded_prometheus, start, end)
    expected = oracle.expected(start, end)
    assert len(expected) > 100
    assert differences(values_of(answer), expected) == []
    assert (answer.start, answer.end) == (start, end)
    assert [row.ts for row in answer.rows] == sorted(row.ts for row in answer.rows)


@pytest.mark.parametrize("name", ["modern", "legacy", "machines"])
async def test_victoriametrics_gives_the_true_numbers_too(
    name: str, known: Seeds, seeded_victoriametrics: int
):
    world, oracle = known.oracle(name, VictoriaMetrics())
    start, end = world.start + 5 * MINUTE, world.start + MINUTES * MINUTE
    answer = await fetch(seeded_victoriametrics, start, end)
    assert differences(values_of(answer), oracle.expected(start, end)) == []


async def test_an_answer_in_small_slices_is_the_same_as_a_large_one(
    known: Seeds, seeded_prometheus: int
):
    start = known.modern.start + 5 * MINUTE
    end = start + 50 * MINUTE
    whole = await fetch(seeded_prometheus, start, end)
    async with DirectClient(seeded_prometheus, max_bytes=6_000) as client:
        with ParseSlot("live") as slot:
            # It believes in more than the client takes, and so has to find out.
            source = PrometheusSource(max_bytes=100_000)
            sliced = await source.fetch(client, start, end, now=time.time(), slot=slot)
    assert client.requests > 50
    assert sliced.end == end
    assert values_of(sliced) == values_of(whole)
    assert {info.key: info for info in sliced.infos} == {info.key: info for info in whole.infos}


async def test_a_cap_below_one_field_of_one_minute_is_too_many_series(
    known: Seeds, seeded_prometheus: int
):
    start = known.modern.start + 5 * MINUTE
    async with DirectClient(seeded_prometheus, max_bytes=600) as client:
        with ParseSlot("live") as slot, pytest.raises(BadResponseError) as refused:
            await PrometheusSource().fetch(client, start, start + 600, now=time.time(), slot=slot)
    assert refused.value.problem in ("too_many_series", "too_large")


async def test_without_time_left_the_answer_ends_after_its_first_slice(
    known: Seeds, seeded_prometheus: int
):
    start = known.modern.start + 5 * MINUTE
    end = start + 50 * MINUTE
    first = await fetch(seeded_prometheus, start, end, budget_seconds=0.0, max_bytes=50_000)
    assert start < first.end < end
    assert max(row.ts for row in first.rows) < first.end
    rest = await fetch(seeded_prometheus, first.end, end)
    whole = await fetch(seeded_prometheus, start, end)
    assert {**values_of(first), **values_of(rest)} == values_of(whole)


async def test_a_way_that_breaks_after_the_first_slice_leaves_a_shorter_answer(
    known: Seeds, seeded_prometheus: int
):
    start = known.machines.start + 5 * MINUTE
    end = start + 45 * MINUTE
    async with DirectClient(seeded_prometheus) as client:
        breaking = _Breaks(client, at=start + 30 * MINUTE)
        with ParseSlot("live") as slot:
            source = PrometheusSource(max_bytes=50_000)
            cut = await source.fetch(breaking, start, end, now=time.time(), slot=slot)
    assert start < cut.end < end
    assert {row.ts for row in cut.rows} == set(range(start, cut.end, MINUTE))
    assert cut.oldest is not None


async def test_a_way_that_breaks_before_the_first_slice_is_an_error(
    known: Seeds, seeded_prometheus: int
):
    start = known.machines.start + 5 * MINUTE
    async with DirectClient(seeded_prometheus) as client:
        with ParseSlot("live") as slot, pytest.raises(ClusterUnreachableError):
            await PrometheusSource().fetch(
                _Breaks(client, at=start), start, start + 600, now=time.time(), slot=slot
            )


class _Breaks:
    """A client whose tunnel goes down when a slice that begins at ``at`` or later is asked for."""

    def __init__(self, client: DirectClient, *, at: int) -> None:
        self._client, self._at = client, at
        self.server_date = None

    async def post_form_json(self, path: str, form, *, before_parsing):
        if path.endswith("query_range") and int(form["start"]) >= self._at:
            raise ClusterUnreachableError("the tunnel is down")
        return await self._client.post_form_json(path, form, before_parsing=before_parsing)


async def test_minutes_in_which_nothing_was_scraped_have_no_rows_at_all(
    known: Seeds, seeded_prometheus: int
):
    start = known.modern.start
    answer = await fetch(seeded_prometheus, start, start + MINUTES * MINUTE)
    dark = {start + minute * MINUTE for minute in range(OUTAGE[0] + 1, OUTAGE[1])}
    assert not dark & {row.ts for row in answer.rows}
    assert not dark & answer.minutes_alive
    assert start + (OUTAGE[0] - 1) * MINUTE in answer.minutes_alive
    assert start + (OUTAGE[1] + 1) * MINUTE in answer.minutes_alive


async def test_a_short_window_that_lacks_its_first_minutes_says_what_the_server_still_has(
    known: Seeds, seeded_prometheus: int
):
    """Else a scrape that failed would look like an end of retention, or an empty server."""
    dark = known.modern.start + (OUTAGE[1] - 2) * MINUTE
    answer = await fetch(seeded_prometheus, dark, dark + 5 * MINUTE)
    assert min(answer.minutes_alive) > dark
    assert answer.oldest is not None
    assert answer.oldest < dark
    whole = await fetch(seeded_prometheus, dark - 20 * MINUTE, dark - 18 * MINUTE)
    assert whole.oldest == dark - 20 * MINUTE


async def test_a_network_counter_that_starts_anew_is_null_and_never_a_spike(
    known: Seeds, seeded_prometheus: int
):
    start = known.modern.start
    values = values_of(await fetch(seeded_prometheus, start, start + MINUTES * MINUTE))
    node = SeriesKey("node", "", "node-a")
    rates = {
        minute: values[start + minute * MINUTE, node].get("net_rx_bps")
        for minute in range(5, OUTAGE[0])
    }
    # The reset lies in minute 20; a rate looks back over two minutes.
    assert {minute for minute, rate in rates.items() if rate is None} == {20, 21}
    assert max(rate for rate in rates.values() if rate is not None) < 120_000
    sent = values[start + 20 * MINUTE, node]["net_tx_bps"]
    assert 30_000 < sent < 120_000  # the other counter went on


async def test_infos_say_where_a_pod_runs_and_what_a_node_is(known: Seeds, seeded_prometheus: int):
    start = known.modern.start + 5 * MINUTE
    answer = await fetch(seeded_prometheus, start, start + 10 * MINUTE)
    infos = {info.key: info for info in answer.infos}
    web = infos[SeriesKey("pod", "default", "web-1")]
    assert (web.node, dict(web.attrs)) == ("node-a", {"owner": "ReplicaSet/web"})
    assert infos[SeriesKey("node", "", "node-a")].attrs["os"] == "Debian 12"
    assert infos[SeriesKey("node", "", "node-a")].attrs["arch"] == "x86_64"
    assert infos[SeriesKey("filesystem", "node-b", "/")].attrs == {
        "device": "/dev/sda1", "fstype": "ext4",
    }  # fmt: skip
    assert answer.kind == "kubernetes"
    assert answer.notes == []


@pytest.mark.parametrize("server", ["seeded_prometheus", "seeded_victoriametrics"])
async def test_the_oldest_minute_is_found_and_the_clock_is_the_servers(
    server: str, known: Seeds, request: pytest.FixtureRequest
):
    port = request.getfixturevalue(server)
    start = known.modern.start
    answer = await fetch(port, start, start + 30 * MINUTE)
    assert answer.oldest == known.machines.start
    assert answer.newest_end == start + 30 * MINUTE
    assert abs(answer.now - time.time()) < 5


async def test_a_window_that_reaches_into_the_running_minute_is_covered_up_to_there(
    seeded_prometheus: int,
):
    now = int(time.time()) // MINUTE * MINUTE
    answer = await fetch(seeded_prometheus, now - 10 * MINUTE, now + 10 * MINUTE)
    assert now - MINUTE <= answer.end <= now + MINUTE
    assert answer.rows == []


async def test_the_same_window_twice_is_the_same_answer(known: Seeds, seeded_prometheus: int):
    start = known.legacy.start + 10 * MINUTE
    first = await fetch(seeded_prometheus, start, start + 5 * MINUTE)
    again = await fetch(seeded_prometheus, start, start + 5 * MINUTE)
    wider = await fetch(seeded_prometheus, start - 5 * MINUTE, start + 10 * MINUTE)
    assert first.rows == again.rows
    assert values_of(first).items() <= values_of(wider).items()


async def test_a_real_node_exporter_says_what_this_machine_says(tmp_path: Path):
    for name in ("exporter", "prometheus"):
        (tmp_path / name).mkdir()
    with node_exporter(tmp_path / "exporter") as exporter:
        config = f"""
global: {{scrape_interval: 1s}}
scrape_configs:
- job_name: node
  static_configs: [{{targets: ["127.0.0.1:{exporter}"]}}]
"""
        with prometheus(tmp_path / "prometheus", config=config) as port:
            rows, facts = await _newest_now(port)
    by_kind = {row.key.kind: row for row in rows}
    node = dict(zip(FIELD_NAMES["node"], by_kind["node"].cells, strict=True))
    assert by_kind["node"].key.name == f"127.0.0.1:{exporter}"
    assert facts.node_attrs[f"127.0.0.1:{exporter}"]["hostname"] == platform.node()
    assert node["mem_cap"].total == _proc("meminfo", "MemTotal:") * 1024
    assert node["cpu_cap_mc"].total == 1000 * os.sysconf("SC_NPROCESSORS_ONLN")
    assert 0 <= node["cpu_mc"].total <= node["cpu_cap_mc"].total
    assert 0 < node["mem_ws"].total < node["mem_cap"].total
    assert abs(node["uptime_s"].total - _proc("uptime", "")) < 60
    assert node["ready"].total == 1
    assert node["load1_m"] is not None
    assert node["pods"] is None


def _proc(name: str, key: str) -> int:
    """Return the first number behind a key in a file of /proc."""
    text = Path("/proc", name).read_text("ascii")
    return int(float(text[text.index(key) + len(key) :].split()[0]))


async def _newest_now(port: int) -> tuple[list[MinuteRow], Facts]:
    """Return what the queries say this second: a whole minute would be long to wait for."""
    async with DirectClient(port) as client:
        with ParseSlot("live") as slot:
            api = PrometheusApi(client, slot)
            for _ in range(200):
                found = await api.vector("min(count_over_time(node_load1[1m]))")
                if found and found[0][1] >= 3:
                    break
                await asyncio.sleep(0.1)
            now = int(time.time())
            facts = await api.facts(now - MINUTE, now)
            piece = Slice([now - MINUTE], facts)
            for numbers in Plan(8_000_000).requests(1):
                raw = await api.matrix(numbers, now, now, targets=targets_expr(facts.jobs))
                piece.add(read_matrix(raw, [now], most=1000), frozenset(numbers))
    return piece.finish()[0], facts


async def test_nodes_keep_their_names_while_kube_state_metrics_is_away(
    known: Seeds, tmp_path: Path
):
    world = known.modern
    gone = world.start + 38 * MINUTE
    series = [
        (name, labels, [s for s in samples if s[0] < gone] if name.startswith("kube_") else samples)
        for name, labels, samples in world.series()
    ]
    with prometheus(tmp_path, series=[one for one in series if one[2]]) as port:
        answer = await fetch(port, world.start + 58 * MINUTE, world.start + 59 * MINUTE)
    assert answer.kind == "kubernetes"
    assert {row.key.name for row in answer.rows if row.key.kind == "node"} == {"node-a", "node-b"}
    ready = FIELD_NAMES["node"].index("ready")
    assert {row.cells[ready] for row in answer.rows if row.key.kind == "node"} == {None}
    assert answer.notes == [
        "kube-state-metrics is away: whether nodes are ready is not known",
    ]
    assert not answer.lists_nodes
