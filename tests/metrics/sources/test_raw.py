"""Single values from real servers: the same as the stored minutes where both have a moment."""

from __future__ import annotations

import time
from math import floor

import pytest

from metrics.series.catalog import FIELD_NAMES
from metrics.series.rows import SeriesKey
from metrics.sources.influxdb1.source import InfluxSource
from metrics.sources.parse_concurrency import ParseSlot
from metrics.sources.prometheus.source import PrometheusSource
from opscenter.core.errors import InvalidInputError
from tests.metrics.sources.influxdb1.test_source import NOW, RECENT, gravity, server  # noqa: F401 - fixtures
from tests.metrics.sources.prometheus.world import MINUTE, running_prometheus
from tests.servers.client import DirectClient


def by_series(answer):
    """Return {(key, field): {minute: value}} of the rows of an answer."""
    found = {}
    for row in answer.rows:
        for name, cell in zip(FIELD_NAMES[row.key.kind], row.cells, strict=True):
            if cell is not None:
                found.setdefault((row.key, name), {})[row.ts] = cell.total / cell.n
    return found


@pytest.mark.parametrize("name", ["modern", "legacy", "machines"])
async def test_prometheus_says_at_whole_minutes_what_is_stored(known, seeded_prometheus, name):
    world, _ = known.oracle(name, running_prometheus())
    start, end = world.start + 10 * MINUTE, world.start + 25 * MINUTE
    source = PrometheusSource()
    async with DirectClient(seeded_prometheus) as client:
        with ParseSlot("live") as slot:
            stored = by_series(await source.fetch(client, start, end, now=time.time(), slot=slot))
        some = {}
        for key, field in stored:
            some.setdefault((key.kind, field), key)
        assert len(some) > 8
        for (kind, field), key in some.items():
            if (kind, field) == ("node", "ready") and name == "machines":
                continue  # made up from what is there, nothing that a server says
            answer = await source.raw(client, key, field, start, end, now=time.time())
            got = {int(t): v for t, v in zip(answer.t, answer.v, strict=True) if t % 60 == 0}
            assert got == stored[key, field], (kind, field)
            assert list(answer.t) == sorted(answer.t)
            assert answer.step


async def test_prometheus_is_asked_for_one_pod_only_and_names_are_quoted(seeded_prometheus, known):
    source = PrometheusSource()
    async with DirectClient(seeded_prometheus) as client:
        for name in ('a"b\\c$1', "no-such\n", "pod) or vector(1"):
            answer = await source.raw(
                client, SeriesKey("pod", "shop", name), "cpu_mc", 0, 3600, now=time.time()
            )
            assert (answer.t, answer.v) == ([], [])
        with pytest.raises(InvalidInputError, match="not asked"):
            await source.raw(client, SeriesKey("pod", "a", "b"), "no", 0, 60, now=time.time())


async def test_influxdb_gives_the_points_that_minutes_are_made_of(server, gravity):  # noqa: F811
    start, end = RECENT[0], RECENT[0] + 900
    source = InfluxSource()
    async with server.client() as client:
        with ParseSlot("live") as slot:
            stored = by_series(await source.fetch(client, start, end, now=NOW, slot=slot))
        asked = 0
        for (key, field), minutes in stored.items():
            if key.kind == "node" and field not in ("cpu_mc", "mem_ws", "uptime_s", "net_rx_bps"):
                continue  # sums over filesystems are not asked for
            answer = await source.raw(client, key, field, start, end, now=NOW)
            got = dict(zip(answer.t, answer.v, strict=True))
            assert {t: floor(v + 0.5) for t, v in got.items()} == minutes, (key, field)
            assert answer.step == 60
            asked += 1
        assert asked > 20
        nobody = SeriesKey("pod", "it's", 'a"b')
        assert (await source.raw(client, nobody, "cpu_mc", start, end, now=NOW)).t == []
        for key, field in (
            (SeriesKey("node", "", "n"), "fs_used"), (SeriesKey("node", "", "a\nb"), "cpu_mc"),
        ):  # fmt: skip
            with pytest.raises(InvalidInputError):
                await source.raw(client, key, field, start, end, now=NOW)
