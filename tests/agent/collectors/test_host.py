import os
import platform
import shutil
import threading
import time

import pytest

from agent.collectors.base import CollectorError
from agent.collectors.host import HostCollector
from tests.agent.machine import GIB, node, pods, rows


async def test_the_node_has_exact_numbers(machine):
    collector = machine.collector()
    first = await node(collector)
    assert (first["cpu_mc"], first["net_rx_bps"]) == (None, None)
    machine.now += 15
    machine.cpu(user=1000 + 600, system=500 + 150, idle=9000 + 1000, iowait=100 + 999)
    machine.net(eth0=(30_000, 15_000), lo=(10**9, 10**9), veth1=(10**9, 10**9))
    assert await node(collector) == {
        "cpu_mc": 500,  # 750 ticks of 100 a second in 15 s
        "cpu_cap_mc": 2000,
        "mem_ws": 2 * GIB,
        "mem_cap": 8 * GIB,
        "fs_used": 10_000 * 4096,
        "fs_cap": 23_000 * 4096,
        "inodes_total": 1000,
        "inodes_free": 900,
        "net_rx_bps": 2000,
        "net_tx_bps": 1000,
        "load1_m": 1250,
        "uptime_s": 86_400,
        "pods": 0,
        "ready": 1,
        "etcd_fsync_us": None,
    }


async def test_the_node_says_what_it_is(machine):
    collected = await machine.collector().collect(0)
    [sample] = [s for s in collected.samples if s.kind == "node"]
    assert sample.attrs == {
        "os": "Debian GNU/Linux 12",
        "kernel": platform.release(),
        "arch": platform.machine(),
        "pods_are": "process groups",
    }


async def test_time_of_guests_is_not_counted_twice(machine):
    collector = machine.collector()
    await node(collector)
    machine.now += 10
    machine.cpu(user=1000 + 500, guest=500)
    assert (await node(collector))["cpu_mc"] == 500


async def test_counters_that_go_back_are_none_never_a_spike(machine):
    collector = machine.collector()
    machine.net(eth0=(10**6, 10**6), eth1=(0, 0))
    await node(collector)
    machine.now += 15
    machine.cpu(user=10)
    machine.net(eth0=(0, 2 * 10**6), eth1=(15_000, 0))
    values = await node(collector)
    assert values["cpu_mc"] is None
    assert values["net_rx_bps"] is None  # the sum without eth0 would be a lie
    assert values["net_tx_bps"] == round(10**6 / 15)
    machine.now += 15
    machine.cpu(user=160)
    machine.net(eth0=(15_000, 2 * 10**6), eth1=(15_000, 0), eth2=(10**12, 10**12))
    values = await node(collector)
    assert values["cpu_mc"] == 100
    assert values["net_rx_bps"] == 1000  # a new card's past is not traffic of now


async def test_a_reading_after_a_long_sleep_has_no_rates(machine):
    machine.process(10, "worker", ticks=100)
    collector = machine.collector()
    await collector.collect(0)
    machine.now += 1800
    machine.cpu(user=1000 + 90_000)
    machine.net(eth0=(10**9, 0))
    machine.process(10, "worker", ticks=50_000)
    collected = await collector.collect(0)
    assert rows(collected, "node")["box"]["cpu_mc"] is None
    assert rows(collected, "node")["box"]["net_rx_bps"] is None
    assert rows(collected, "pod")["worker"]["cpu_mc"] is None
    machine.now += 10
    machine.process(10, "worker", ticks=50_100)
    assert (await pods(collector))["worker"]["cpu_mc"] == 100


async def test_cpu_never_exceeds_the_capacity(machine):
    collector = machine.collector()
    await node(collector)
    machine.now += 10
    machine.cpu(user=1000 + 99_999)
    assert (await node(collector))["cpu_mc"] == 2000


async def test_what_the_kernel_does_not_offer_is_none_and_a_problem(machine):
    for name in ("stat", "meminfo", "loadavg", "uptime", "net/dev", "self/mountinfo"):
        (machine.proc / name).unlink()
    collected = await machine.collector().collect(0)
    values = rows(collected, "node")["box"]
    assert {field for field, value in values.items() if value is not None} == {"pods", "ready"}
    assert len(collected.problems) == 5


async def test_garbage_in_proc_is_ignored(machine):
    machine.write("meminfo", "MemTotal: lots\nMemAvailable\n\x00\xff:\n")
    machine.write("loadavg", "\n")
    machine.write("uptime", "soon")
    machine.write("net/dev", "eth0: 1 2 3\n|||\n:\n")
    machine.write("77/stat", "77 (half")
    values = await node(machine.collector())
    assert values["mem_cap"] is None
    assert values["load1_m"] is None


@pytest.mark.parametrize(
    ("total", "available", "expected"),
    [
        (8388608, 8388608, (None, 8 * GIB)),
        (8388608, 9000000, (None, 8 * GIB)),  # a container's limit beside the machine's rest
        (0, 0, (None, None)),
    ],
)
async def test_memory_of_which_nothing_is_used_is_not_known(machine, total, available, expected):
    machine.write("meminfo", f"MemTotal: {total} kB\nMemAvailable: {available} kB\n")
    values = await node(machine.collector())
    assert (values["mem_ws"], values["mem_cap"]) == expected


async def test_one_reading_that_hangs_is_reported_and_the_next_does_not_pile_up(
    machine, monkeypatch
):
    release = threading.Event()
    collector = machine.collector()
    monkeypatch.setattr("agent.collectors.host.READ_SECONDS", 0.1)
    monkeypatch.setattr(collector, "_memory", lambda: release.wait(30) and {})
    with pytest.raises(CollectorError, match="does not answer within"):
        await collector.collect(0)
    before = threading.active_count()
    with pytest.raises(CollectorError, match="still not returned"):
        await collector.collect(0)
    assert threading.active_count() == before
    release.set()


# The machine that runs the tests


async def test_this_machines_own_numbers_agree_with_independent_readings():
    collector = HostCollector(node_name="here")
    await collector.collect(time.time())
    started, cpu = time.monotonic(), time.process_time()
    while time.process_time() - cpu < 0.5:
        sum(range(10_000))
    collected = await collector.collect(time.time())
    seconds = time.monotonic() - started
    values = rows(collected, "node")["here"]
    assert values["cpu_cap_mc"] == 1000 * os.sysconf("SC_NPROCESSORS_ONLN")
    assert values["mem_cap"] == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 0 < values["mem_ws"] < values["mem_cap"]
    assert values["load1_m"] == pytest.approx(1000 * os.getloadavg()[0], abs=300)
    assert values["uptime_s"] == pytest.approx(time.clock_gettime(time.CLOCK_BOOTTIME), abs=5)
    assert values["ready"] == 1
    usage = shutil.disk_usage("/")
    root = rows(collected, "filesystem")["/"]
    assert root["used"] == pytest.approx(usage.used, abs=2**28)
    assert root["cap"] == pytest.approx(usage.used + usage.free, abs=2**28)
    # This process used half a second of CPU, so its group and the node did at least about that.
    groups = rows(collected, "pod")
    assert values["pods"] == len(groups) > 0
    least = 1000 * 0.4 / seconds
    assert max(group["cpu_mc"] or 0 for group in groups.values()) > least
    assert values["cpu_mc"] > least
