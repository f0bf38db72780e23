"""The ``influxdb`` source against a real InfluxDB 1.6.7 with Heapster's schema."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from metrics.sources.base import Resolution, SourceAnswer
from metrics.sources.influxdb import InfluxSource
from metrics.turns import Turn
from opscenter.core.errors import BadResponseError
from tests.servers.heapster import Heapster, expected_minutes, expected_rollups
from tests.servers.influxdb import InfluxServer, influx_server

DAY = 86_400
# Whole hours, so that windows of every tier are easy to name; the server forgets by its own clock.
NOW = int(time.time())
HOUR = NOW // 3600 * 3600
RECENT = (HOUR - 7200, HOUR - 3600 - 600)  # minutes are there
YESTERDAY = (HOUR - 33 * 3600, HOUR - 30 * 3600)  # only 5-minute values are left
LAST_MONTH = (HOUR - 40 * DAY, HOUR - 40 * DAY + 4 * 3600)  # only hours are left


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InfluxServer]:
    with influx_server(tmp_path_factory.mktemp("influxdb")) as running:
        yield running


@pytest.fixture(scope="module")
def gravity(server: InfluxServer) -> Heapster:
    """Return a cluster with minutes, and with the roll-ups of what is older, as Gravity has it."""
    heapster = Heapster(server, "k8s")
    heapster.create()
    server.query('ALTER RETENTION POLICY "default" ON k8s DURATION 60d SHARD DURATION 1h')
    server.query('ALTER RETENTION POLICY "medium" ON k8s DURATION 60d')
    for start, end in (LAST_MONTH, YESTERDAY):
        heapster.write(start - 60, end)
        heapster.roll_up(start, end)
    heapster.write(*RECENT)
    heapster.expire("default", HOUR - DAY)
    heapster.expire("medium", HOUR - 28 * DAY)
    server.query('ALTER RETENTION POLICY "default" ON k8s DURATION 1d SHARD DURATION 1h')
    server.query('ALTER RETENTION POLICY "medium" ON k8s DURATION 4w')
    return heapster


async def fetch(server: InfluxServer, start: int, end: int, **options) -> SourceAnswer:
    source = InfluxSource(options.pop("database", "k8s"))
    with Turn("live") as turn:
        async with server.client(**options) as client:
            return await source.fetch(client, start, end, now=NOW, turn=turn)


@pytest.mark.parametrize("minutes", [1, 5, 50], ids=["one minute", "five minutes", "fifty"])
async def test_every_number_of_the_minutes_is_what_heapster_wrote(server, gravity, minutes):
    start = RECENT[0]
    answer = await fetch(server, start, start + 60 * minutes)
    got = {(row.ts, row.key): row.cells for row in answer.rows}
    assert got == expected_minutes(start, start + 60 * minutes)
    assert len(got) == len(answer.rows)
    assert [row.ts for row in answer.rows] == sorted(row.ts for row in answer.rows)
    assert (answer.start, answer.end, answer.resolution) == (start, start + 60 * minutes, 60)
    assert answer.minutes_alive == set(range(start, start + 60 * minutes, 60))
    assert answer.newest_end == RECENT[1]
    assert not answer.coarse
    assert not answer.ignored


@pytest.mark.parametrize(
    ("policy", "tier", "window"),
    [("medium", "10m", YESTERDAY), ("long", "1h", LAST_MONTH)],
    ids=["medium", "long"],
)
async def test_every_number_of_a_rollup_is_what_the_server_rolled_up(
    server, gravity, policy, tier, window
):
    answer = await fetch(server, *window)
    got = {(row.ts, row.key): row.cells for row in answer.coarse}
    assert got == expected_rollups(policy, *window)
    assert {row.tier for row in answer.coarse} == {tier}
    assert not answer.rows
    assert (answer.start, answer.end) == window
    assert answer.resolution == (300 if policy == "medium" else 3600)
    assert answer.minutes_alive == set(range(*window, 60))
    assert answer.oldest == LAST_MONTH[0]


async def test_the_probe_says_what_is_there_and_why_the_rest_is_not(server, gravity):
    source = InfluxSource()
    async with server.client() as client:
        probe = await source.probe(client, now=NOW)
    assert probe.product == "InfluxDB"
    assert probe.version.startswith("1.")
    assert (probe.oldest, probe.newest) == (LAST_MONTH[0], RECENT[1])
    assert probe.series == {"node": 2, "filesystem": 4, "pod": 3}
    fields = {(one.kind, one.field): one for one in probe.fields}
    assert fields["node", "cpu_mc"].series == 2
    assert fields["pod", "fs_used"].series == 3
    assert {name: one.why for (kind, name), one in fields.items() if not one.series} == {
        "load1_m": "Telegraf does not write 'system' into this database",
        "ready": "Telegraf does not write 'satellite_k8s_node_ready' into this database",
        "etcd_fsync_us": "Gravity's InfluxDB does not have it: add etcd itself as a source",
        "etcd_leader_changes": "Gravity's InfluxDB does not have it: add etcd itself as a source",
    }
    assert probe.resolutions == source.resolutions
    assert source.resolutions == (
        Resolution(60, DAY, "1m"),
        Resolution(300, 28 * DAY, "10m"),
        Resolution(3600, 364 * DAY, "1h"),
    )
    assert len(probe.notes) == 4
    assert "retention policy 'default' keeps 24 h: data since" in probe.notes[0]
    assert "Heapster does not write any more" in probe.notes[3]


@pytest.mark.parametrize(
    ("user", "password", "problem"),
    [
        ("root", "wrong", "credentials_refused"),
        ("nobody", "x", "forbidden"),
    ],
)
async def test_a_refused_user_is_named(server, gravity, user, password, problem):
    server.query("CREATE USER nobody WITH PASSWORD 'x'")
    with pytest.raises(BadResponseError) as refused:
        await fetch(server, *RECENT, user=user, password=password)
    assert refused.value.problem == problem


async def test_a_missing_database_is_named(server, gravity):
    for window in (RECENT, (NOW - 240, NOW - 120)):
        with pytest.raises(BadResponseError, match="database not found: nosuch") as refused:
            await fetch(server, *window, database="nosuch")
        assert refused.value.problem == "database_missing"


@pytest.mark.parametrize("database", ['k"8s\\', "k8s'; DROP DATABASE k8s; --", "k8s$(x) é"])
async def test_no_name_of_a_database_says_more_than_a_name(server, gravity, database):
    with pytest.raises(BadResponseError) as refused:
        await fetch(server, *RECENT, database=database)
    assert refused.value.problem == "database_missing"
    assert await fetch(server, RECENT[0], RECENT[0] + 60)


def test_a_database_that_cannot_be_quoted_is_refused():
    with pytest.raises(ValueError, match="control characters"):
        InfluxSource("k8s\n")
