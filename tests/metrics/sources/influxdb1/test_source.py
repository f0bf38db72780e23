"""The ``influxdb`` source against a real InfluxDB 1.6.7 with Heapster's schema."""

from __future__ import annotations

import time
from uuid import UUID, uuid4

import pytest

from metrics.series.catalog import FIELD_NAMES, Kind
from metrics.series.rows import Cell, SeriesKey
from metrics.series.source_answer import SourceAnswer
from metrics.sources.base import Resolution
from metrics.sources.influxdb1.source import InfluxSource
from metrics.sources.parse_concurrency import ParseSlot
from metrics.stores.sqlite.store import SqliteStore
from metrics.stores.writer import Batch
from opscenter.core.errors import BadResponseError
from tests.servers.heapster import Heapster, expected_minutes, expected_rollups
from tests.servers.influxdb import InfluxServer

Rows = dict[tuple[int, SeriesKey], tuple[Cell | None, ...]]
DAY = 86_400
# Whole hours, so that windows of every tier are easy to name; the server forgets by its own clock.
NOW = int(time.time())
HOUR = NOW // 3600 * 3600
RECENT = (HOUR - 7200, HOUR - 3600 - 600)  # minutes are there
YESTERDAY = (HOUR - 33 * 3600, HOUR - 30 * 3600)  # only 5-minute values are left
LAST_MONTH = (HOUR - 40 * DAY, HOUR - 40 * DAY + 4 * 3600)  # only hours are left


@pytest.fixture(scope="module")
def server(influxdb: InfluxServer) -> InfluxServer:
    return influxdb


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
    now = options.pop("now", NOW)
    with ParseSlot("live") as slot:
        async with server.client(**options) as client:
            return await source.fetch(client, start, end, now=now, slot=slot)


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


async def test_every_stored_number_of_every_tier_is_what_heapster_wrote(server, gravity, tmp_path):
    """Minutes, our roll-ups of them, and the server's where it has no minutes any more."""
    store = SqliteStore(tmp_path / "metrics.sqlite3")
    cluster = uuid4()
    for window in (LAST_MONTH, YESTERDAY, RECENT):
        answer = await fetch(server, *window)
        batch = Batch(rows=answer.rows, infos=answer.infos, coarse=answer.coarse)
        for _ in range(2):  # the second time changes nothing
            assert store.write(cluster, "agent", batch).detail == ""
    minutes = expected_minutes(*RECENT)
    five, hour = expected_rollups("medium", *YESTERDAY), expected_rollups("long", *LAST_MONTH)
    for kind in ("node", "filesystem", "pod"):
        assert scan(store, cluster, kind, "1m") == of_kind(minutes, kind)
        assert scan(store, cluster, kind, "10m") == of_kind(five | widened(minutes, 600), kind)
        hours = hour | widened(five, 3600) | widened(minutes, 3600)
        assert scan(store, cluster, kind, "1h") == of_kind(hours, kind)
    store.close()


def scan(store: SqliteStore, cluster: UUID, kind: Kind, tier: str) -> Rows:
    return {(row.ts, row.key): row.cells for row in store.scan(cluster, kind, tier, 0, 1 << 40)}


def of_kind(rows: Rows, kind: Kind) -> Rows:
    return {place: cells for place, cells in rows.items() if place[1].kind == kind}


def widened(rows: Rows, width: int) -> Rows:
    """Merge rows into buckets, one cell after the other."""
    buckets: dict[tuple[int, SeriesKey], list[tuple[Cell | None, ...]]] = {}
    for (ts, key), cells in rows.items():
        buckets.setdefault((ts - ts % width, key), []).append(cells)
    return {place: tuple(map(joined, zip(*parts, strict=True))) for place, parts in buckets.items()}


def joined(cells: tuple[Cell | None, ...]) -> Cell | None:
    there = [cell for cell in cells if cell is not None]
    if not there:
        return None
    lows = [cell.low for cell in there]
    highs = [cell.high for cell in there]
    return Cell(
        sum(cell.n for cell in there),
        sum(cell.total for cell in there),
        None if None in lows else min(lows),
        None if None in highs else max(highs),
    )


async def test_an_answer_ends_where_finer_values_begin(server, gravity):
    """Never a mix: 5-minute values up to the first bucket that is all minutes, then minutes."""
    start, end = YESTERDAY[1] - 1200, RECENT[0] + 1500
    first = await fetch(server, start, end)
    assert first.resolution == 300
    assert not first.rows
    assert first.end == RECENT[0]
    assert max(row.ts for row in first.coarse) == YESTERDAY[1] - 600
    then = await fetch(server, first.end, end)
    assert (then.resolution, then.end, then.coarse) == (60, end, ())
    assert {row.ts for row in then.rows} == set(range(RECENT[0], end, 60))
    old = await fetch(server, LAST_MONTH[0] + 60, YESTERDAY[0] + 1200)
    assert (old.resolution, old.end) == (3600, YESTERDAY[0])
    assert {row.ts for row in old.coarse} == set(range(*LAST_MONTH, 3600))


@pytest.mark.parametrize(("since", "until"), [(60, 120), (540, 660), (-60, 600), (0, 1260)])
async def test_rollups_come_in_whole_buckets_whatever_is_asked(server, gravity, since, until):
    start, end = YESTERDAY[0] + 3600 + since, YESTERDAY[0] + 3600 + until
    answer = await fetch(server, start, end)
    low, high = start - start % 600, end + -end % 600
    got = {(row.ts, row.key): row.cells for row in answer.coarse}
    assert got == expected_rollups("medium", low, high)
    assert (answer.start, answer.end) == (start, end)
    assert answer.minutes_alive == set(range(start, end, 60))


async def test_minutes_that_begin_within_a_bucket_follow_whole_coarse_ones(server):
    heapster = Heapster(server, "begins within")
    heapster.create()
    begins = HOUR - 5 * 3600 + 180  # three minutes into a bucket
    start = begins - 3600 - 180
    heapster.write(start - 60, begins + 1200)
    heapster.roll_up(start, begins + 1200)
    heapster.forget(begins)
    answer = await fetch(server, start, begins + 600, database=heapster.database)
    assert (answer.resolution, answer.end) == (300, begins + 420)
    assert {row.ts for row in answer.coarse} == set(range(start, begins + 420, 600))
    assert all(cell.n == 10 for row in answer.coarse for cell in row.cells if cell)


async def test_an_answer_that_is_too_large_is_asked_for_in_pieces(server, gravity):
    whole = await fetch(server, *RECENT)
    async with server.client(max_bytes=20_000) as client:
        with ParseSlot("live") as slot:
            pieces = await InfluxSource().fetch(client, *RECENT, now=NOW, slot=slot)
        assert client.requests > 8
    assert sorted(pieces.rows) == sorted(whole.rows)
    assert (pieces.end, pieces.oldest, pieces.newest_end) == (
        whole.end, whole.oldest, whole.newest_end,
    )  # fmt: skip
    one = await fetch(server, RECENT[0], RECENT[0] + 60)
    parts = await fetch(server, RECENT[0], RECENT[0] + 60, max_bytes=3_000)
    assert parts.rows == one.rows


async def test_minutes_that_may_still_come_are_not_taken_for_absent(server):
    heapster = Heapster(server, "lags")
    heapster.create(rollups=False)
    now = int(time.time()) // 60 * 60
    heapster.write(now - 600, now - 180)
    answer = await fetch(server, now - 240, now - 60, database="lags", now=now)
    assert (answer.end, answer.newest_end, answer.oldest) == (now - 180, now - 180, now - 600)
    got = {(row.ts, row.key): row.cells for row in answer.rows}
    assert got == expected_minutes(now - 240, now - 180)
    stopped = Heapster(server, "stopped")
    stopped.create(rollups=False)
    stopped.write(now - 1200, now - 900)
    answer = await fetch(server, now - 1000 // 60 * 60, now - 60, database="stopped")
    assert now - 420 <= answer.end <= now - 240
    assert answer.newest_end == now - 900


async def test_a_database_without_rollups_answers_with_what_it_has(server):
    heapster = Heapster(server, "minutes only")
    heapster.create(rollups=False)
    start = HOUR - 7200
    heapster.write(start, start + 600)
    answer = await fetch(server, start - 86_400, start + 600, database="minutes only")
    assert (answer.resolution, answer.end, answer.oldest) == (60, start + 600, start)
    assert {row.ts for row in answer.rows} == set(range(start, start + 600, 60))


async def test_an_empty_database_answers_with_nothing(server):
    Heapster(server, "empty").create()
    answer = await fetch(server, NOW // 60 * 60 - 7200, NOW // 60 * 60 - 3600, database="empty")
    assert not answer.rows
    assert (answer.oldest, answer.newest_end) == (None, None)
    assert answer.end == NOW // 60 * 60 - 3600


async def test_telegraf_gives_load_and_readiness_to_the_nodes_that_heapster_knows(server):
    heapster = Heapster(server, "telegraf")
    heapster.create(rollups=False)
    start = HOUR - 7200
    heapster.write(start, start + 60)
    lines = []
    for number, t in enumerate(range(start, start + 60, 20)):
        lines += [
            f"system,host=10.0.0.1 load1=0.{number + 1},load5=1 {t}",
            f"system,host=telegraf-x2b4z load1=9 {t}",
            f"satellite_k8s_node_ready,node=10.0.0.2,nodename=10.0.0.1 gauge={number % 2} {t}",
            f"satellite_k8s_node_ready,node=10.0.0.9,nodename=10.0.0.1 gauge=0 {t}",
        ]
    server.write("telegraf", lines)
    for end in (start + 60, start + 600):
        answer = await fetch(server, start, end, database="telegraf")
        cells = {
            (row.key.name, name): cell
            for row in answer.rows
            for name, cell in zip(FIELD_NAMES["node"], row.cells, strict=False)
            if row.key.kind == "node" and name in ("load1_m", "ready") and cell
        }
        assert cells == {
            ("10.0.0.1", "load1_m"): Cell(3, 600, 100, 300),
            ("10.0.0.2", "ready"): Cell(3, 1, 0, 1),
            ("10.0.0.9", "ready"): Cell(3, 0, 0, 0),
        }


async def test_two_samples_of_a_minute_are_one_cell_and_the_same_sample_twice_is_refused(server):
    server.query('CREATE DATABASE "half" WITH DURATION 24h NAME "default"')
    end = HOUR - 3600
    tags = "type=node,nodename=n1"
    server.write(
        "half", [f"memory/working_set,{tags} value={v} {end - s}" for s, v in ((30, 4), (0, 7))]
    )
    answer = await fetch(server, end - 60, end, database="half")
    (row,) = answer.rows
    assert row.ts == end - 60
    assert row.cells[FIELD_NAMES["node"].index("mem_ws")] == Cell(2, 11, 4, 7)
    server.write("half", [f"memory/working_set,{tags},labels=b value=9 {end}"])
    for start in (end - 60, end - 1200):
        with pytest.raises(BadResponseError, match="node/n1") as refused:
            await fetch(server, start, end, database="half")
        assert refused.value.problem == "duplicate_series"


async def test_the_clock_is_the_servers(server, gravity):
    answer = await fetch(server, *RECENT)
    assert abs(answer.now - time.time()) < 5


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
    assert "retention policy 'default' keeps data for 24 h: data since" in probe.notes[0]
    assert "Heapster no longer writes" in probe.notes[3]


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
