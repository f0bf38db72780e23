"""Inputs from other people's machines, as a real InfluxDB 1.6.7 answers them."""

from __future__ import annotations

import time
from collections.abc import Iterable

import pytest

from metrics.series.rows import Cell, SeriesKey
from metrics.series.source_answer import SourceAnswer
from metrics.sources.influxdb1.source import InfluxSource
from metrics.sources.parse_concurrency import ParseSlot
from metrics.sources.plausible import plausible
from tests.metrics.sources import field
from tests.servers.influxdb import InfluxServer

pytestmark = pytest.mark.usefixtures("starts_servers")
NODE = "type=node,nodename=10.0.0.1,hostname=10.0.0.1"
NEWEST = int(time.time()) // 60 * 60 - 300
START, END = NEWEST - 240, NEWEST


async def fetch(
    server: InfluxServer, database: str, start: int = START, end: int = END
) -> SourceAnswer:
    with ParseSlot("live") as slot:
        async with server.client() as client:
            source = InfluxSource(database)
            answer = await source.fetch(client, start, end, now=time.time(), slot=slot)
    return plausible(answer)


def made(server: InfluxServer, name: str, lines: Iterable[str]) -> str:
    """Return a new database with these lines."""
    server.query(f'DROP DATABASE "{name}"')
    server.query(f'CREATE DATABASE "{name}" WITH DURATION 48h NAME "default"')
    server.write(name, lines)
    return name


async def test_a_cpu_below_zero_is_empty_in_its_minute(influxdb):
    wanted = field.load("negative-cpu-of-heapster")
    lines = [f"{one['line']} {NEWEST + one['at']}" for one in wanted["input"]["lines"]]
    answer = await fetch(influxdb, made(influxdb, "negative", lines))
    field.check(answer, wanted)
    assert answer.refused == {"node cpu_mc below zero": 1}
    assert field.values(answer, "node", "", "10.0.0.1", "mem_ws") == [2_000_000] * 4


async def test_one_bad_container_or_disk_does_not_spoil_a_sum(influxdb):
    pod = "namespace_name=shop,pod_name=web-0,nodename=10.0.0.1"
    disk = f"{NODE},resource_id=/dev"
    lines = []
    for t in range(START + 60, END + 1, 60):
        lines += [
            f"memory/working_set,{NODE} value=2000000i {t}",
            f"filesystem/usage,type=pod_container,container_name=a,{pod} value=-4096i {t}",
            f"filesystem/usage,type=pod_container,container_name=b,{pod} value=7i {t}",
            f"filesystem/usage,{disk}/sda value=40i {t}",
            f"filesystem/limit,{disk}/sda value=100i {t}",
            f"filesystem/usage,{disk}/sdb value=-40i {t}",
            f"filesystem/limit,{disk}/sdb value=500i {t}",
            f"filesystem/inodes,{disk}/sda value=0i {t}",
            f"filesystem/inodes_free,{disk}/sda value=0i {t}",
        ]
    name = made(influxdb, "parts", lines)
    answer = await fetch(influxdb, name)
    assert field.values(answer, "pod", "shop", "web-0", "fs_used") == [7] * 4
    assert field.values(answer, "node", "", "10.0.0.1", "fs_used") == [40] * 4
    assert field.values(answer, "node", "", "10.0.0.1", "fs_cap") == [100] * 4
    assert field.values(answer, "filesystem", "10.0.0.1", "/dev/sdb", "used") == [None] * 4
    # btrfs counts no inodes and says 0.
    assert field.values(answer, "filesystem", "10.0.0.1", "/dev/sda", "inodes_free") == [None] * 4
    assert answer.refused == {"pod fs_used below zero": 4, "filesystem used below zero": 4}
    async with influxdb.client() as client:
        raw = await InfluxSource(name).raw(
            client, SeriesKey("pod", "shop", "web-0"), "fs_used", START, END, now=time.time()
        )
    assert list(raw.v) == [7] * 4


async def test_wider_values_are_not_believed_either(influxdb):
    old = NEWEST // 3600 * 3600 - 3 * 86_400
    name = made(influxdb, "wider", [])
    influxdb.query(f'CREATE RETENTION POLICY "medium" ON "{name}" DURATION 60d REPLICATION 1')
    lines = []
    for at, (mean, highest) in enumerate([(500, 900), (500, 900), (-3210, 900), (500, 10**18)] * 3):
        t = old + 300 * at
        lines.append(f"cpu/usage_rate/medium,{NODE} value_mean={mean},value_max={highest} {t}")
        lines.append(f"memory/working_set/medium,{NODE} value_mean=2e6,value_max=2e6 {t}")
    influxdb.write(name, lines, "medium")
    answer = await fetch(influxdb, name, old, old + 1800)
    cpu = [row.cells[0] for row in answer.coarse]
    assert cpu == [Cell(10, 5000, None, 900), None, Cell(10, 5000, None, 900)]
    assert all(row.cells[2] is not None for row in answer.coarse)
    assert sum(answer.refused.values()) == 1
