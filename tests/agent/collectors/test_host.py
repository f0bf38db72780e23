import asyncio
import os
import platform
import shutil
import threading
import time
from pathlib import Path

import pytest

from agent.catalog import FIELDS
from agent.collectors.base import CollectorError
from agent.collectors.filesystems import Filesystems
from agent.collectors.host import HostCollector
from agent.collectors.units import Unit, keep_largest
from tests.agent.machine import GIB, ROOT_MOUNT, FakeMachine, disk

PAGE = 4096


@pytest.fixture
def machine(tmp_path: Path) -> FakeMachine:
    return FakeMachine(tmp_path)


def rows(collected, kind):
    return {
        sample.name: dict(zip(FIELDS[kind], sample.values, strict=True))
        for sample in collected.samples
        if sample.kind == kind
    }


async def node(collector):
    return rows(await collector.collect(0), "node")["box"]


async def pods(collector):
    return rows(await collector.collect(0), "pod")


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


async def test_cpu_never_exceeds_what_there_is(machine):
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


async def test_garbage_in_proc_is_not_believed(machine):
    machine.write("meminfo", "MemTotal: lots\nMemAvailable\n\x00\xff:\n")
    machine.write("loadavg", "\n")
    machine.write("uptime", "soon")
    machine.write("net/dev", "eth0: 1 2 3\n|||\n:\n")
    machine.write("77/stat", "77 (half")
    values = await node(machine.collector())
    assert values["mem_cap"] is None
    assert values["load1_m"] is None


# Filesystems


async def test_filesystems_are_counted_once_and_only_real_ones(machine):
    machine.write(
        "self/mountinfo",
        ROOT_MOUNT
        + "30 27 254:0 /var/lib/thing /srv/bind rw - ext4 /dev/vda1 rw\n"
        + "31 27 254:16 / /mnt/data\\040disk rw,noatime shared:5 master:2 - xfs /dev/vdb rw\n"
        + "32 27 254:16 / /mnt/d rw - xfs /dev/vdb rw\n"
        + "33 27 0:40 /@ /pool rw - btrfs /dev/vdc rw\n"
        + "34 27 0:40 /@home /pool/home rw - btrfs /dev/vdc rw\n"
        + "35 27 0:22 / /proc rw - proc proc rw\n36 27 0:23 / /run rw - tmpfs tmpfs rw\n"
        + "37 27 0:50 / /var/lib/docker/overlay2/x/merged rw - overlay overlay rw\n"
        + "38 27 7:0 / /snap/core/1 ro - squashfs /dev/loop0 ro\n"
        + "39 27 0:60 / /mnt/nfs rw - nfs4 files:/export rw\n"
        + "40 27 0:61 / /mnt/nfs2 rw - nfs4 files:/export rw\n"
        + "41 27 254:1 / /etc/hosts rw - ext4 /dev/vda2 rw\n"
        + "42 27 254:48 / /mnt/ro ro - ext4 /dev/vdd ro\n"
        + "garbage\n43 27\n",
    )
    machine.disks |= {
        "/mnt/d": disk(blocks=1000, free=400, available=400),
        "/pool": disk(blocks=2000, free=1000, available=1000, files=0, files_free=0),
        "/mnt/nfs": disk(blocks=9000, free=1000, available=1000),
        "/etc/hosts": None,  # a file, not a directory
        "/mnt/ro": disk(blocks=10, free=0, available=0),
    }
    collected = await machine.collector().collect(0)
    found = rows(collected, "filesystem")
    assert sorted(found) == ["/", "/mnt/d", "/mnt/nfs", "/mnt/ro", "/pool"]
    assert found["/mnt/d"] == {
        "used": 600 * 4096,
        "cap": 1000 * 4096,
        "inodes_total": 1000,
        "inodes_free": 900,
    }
    assert (found["/pool"]["inodes_total"], found["/pool"]["inodes_free"]) == (None, None)
    by_name = {s.name: s for s in collected.samples if s.kind == "filesystem"}
    assert by_name["/mnt/nfs"].attrs == {"device": "files:/export", "fstype": "nfs4"}
    assert by_name["/mnt/ro"].attrs["read_only"] == "yes"
    assert {s.ns for s in by_name.values()} == {"box"}
    values = rows(collected, "node")["box"]
    # The machine's own disks, without the network's.
    assert values["fs_used"] == (10_000 + 600 + 1000 + 10) * 4096
    assert values["inodes_total"] == 3000


async def test_a_hidden_mount_is_not_reported(machine):
    machine.write(
        "self/mountinfo",
        ROOT_MOUNT + "31 27 8:1 / /data rw - ext4 /dev/sda1 rw\n"
        "32 31 8:2 / /data rw - ext4 /dev/sdb1 rw\n",
    )
    machine.disks["/data"] = disk(blocks=10, free=5, available=5)
    collected = await machine.collector().collect(0)
    [data] = [s for s in collected.samples if s.name == "/data"]
    assert data.attrs["device"] == "/dev/sdb1"


async def test_in_a_container_the_overlay_at_the_root_counts_and_its_disk_not_twice(machine):
    machine.write(
        "self/mountinfo",
        "1 0 0:70 / / rw - overlay overlay rw,lowerdir=a\n"
        "2 1 259:1 /var/lib/volumes/x /data rw - ext4 /dev/nvme0n1p1 rw\n"
        "3 1 259:2 / /other rw - ext4 /dev/nvme1n1 rw\n",
    )
    same = {"blocks": 1000, "free": 400, "available": 400}
    machine.disks |= {
        "/": disk(**same),
        "/data": disk(**same),
        "/other": disk(blocks=50, free=10, available=10),
    }
    collected = await machine.collector().collect(0)
    assert sorted(rows(collected, "filesystem")) == ["/", "/other"]
    assert rows(collected, "node")["box"]["fs_cap"] == 1050 * 4096


async def test_a_hung_network_filesystem_is_missing_and_stops_nothing(machine):
    machine.write(
        "self/mountinfo", ROOT_MOUNT + "39 27 0:60 / /mnt/nfs rw - nfs files:/export rw\n"
    )
    release, calls = threading.Event(), []

    def statvfs(point):
        calls.append(point)
        if point == "/mnt/nfs":
            release.wait(30)
        return disk(blocks=100, free=50, available=50)

    filesystems = Filesystems(machine.proc / "self/mountinfo", statvfs=statvfs, timeout=0.2)
    collector = machine.collector(filesystems=filesystems)
    for _ in range(3):
        collected = await collector.collect(0)
        found = rows(collected, "filesystem")
        assert found["/"]["used"] == 50 * 4096
        assert set(found["/mnt/nfs"].values()) == {None}
        assert "filesystem /mnt/nfs: " in collected.problems[0]
    assert calls.count("/mnt/nfs") == 1, "a call that hangs is not made again"
    release.set()
    for _ in range(500):
        found = rows(await collector.collect(0), "filesystem")
        if found["/mnt/nfs"]["used"] is not None:
            break
        await asyncio.sleep(0.01)
    assert found["/mnt/nfs"]["used"] == 50 * 4096


async def test_a_filesystem_that_refuses_is_a_problem(machine):
    machine.disks["/"] = OSError(5, "Input/output error")
    collected = await machine.collector().collect(0)
    assert collected.problems == ["filesystem /: Input/output error"]
    assert rows(collected, "node")["box"]["fs_used"] is None


# Processes


async def test_process_groups_have_exact_numbers(machine):
    machine.process(1, "init", parent=0)
    machine.process(2, "kthreadd", parent=0, flags=0x00200000, resident=0)
    machine.process(10, "nginx", cmdline="nginx: master process", ticks=100)
    machine.process(11, "nginx", cmdline="nginx: worker process", parent=10, ticks=50)
    collector = machine.collector()
    first = await pods(collector)
    assert first["nginx"] == {
        "cpu_mc": None,
        "mem_ws": 2 * 60 * PAGE,
        "mem_rss": 2 * 100 * PAGE,
        "fs_used": None,
        "net_rx_bps": None,
        "net_tx_bps": None,
        "restarts": None,
    }
    assert first["kernel"]["mem_rss"] is None
    machine.now += 10
    machine.process(10, "nginx", cmdline="nginx: master process", ticks=150)
    machine.process(11, "nginx", cmdline="nginx: worker process", parent=10, ticks=250)
    second = await pods(collector)
    assert second["nginx"]["cpu_mc"] == 250
    assert second["init"]["cpu_mc"] == 0


async def test_processes_that_come_and_go_within_an_interval_count(machine):
    machine.process(20, "make", ticks=0)
    machine.process(21, "cc1plus", parent=20, ticks=300, started=200)
    collector = machine.collector()
    await collector.collect(0)
    machine.now += 10
    machine.end(21)  # used 50 more before it ended
    # Two compilers that were never seen used 250; a new one is still running.
    machine.process(20, "make", ticks=10, children=350 + 250)
    machine.process(25, "cc1plus", parent=20, ticks=80, started=900)
    machine.cpu(user=1000 + 400)
    found = await pods(collector)
    assert found["make"]["cpu_mc"] == 10 + 50 + 250
    assert found["cc1plus"]["cpu_mc"] == 80


async def test_a_child_that_changes_its_parent_makes_no_spike(machine):
    machine.process(1, "init", parent=0)
    machine.process(30, "shell", ticks=1)
    machine.process(31, "daemon", parent=30, ticks=1_000_000)
    collector = machine.collector()
    await collector.collect(0)
    machine.now += 10
    machine.end(30)
    machine.end(31)  # inherited and waited for by init in between
    machine.process(1, "init", parent=0, children=1_000_000)
    machine.cpu(user=1000 + 20)
    assert (await pods(collector))["init"]["cpu_mc"] <= 20


async def test_a_process_id_used_again_is_another_process(machine):
    machine.process(40, "batch", ticks=5000, started=100)
    collector = machine.collector()
    await collector.collect(0)
    machine.now += 10
    machine.process(40, "batch", ticks=70, started=777)
    assert (await pods(collector))["batch"]["cpu_mc"] == 70


async def test_a_process_that_runs_another_program_changes_its_group(machine):
    machine.process(50, "sh", cmdline="sh /opt/start.sh", ticks=10)
    collector = machine.collector()
    assert "sh:start.sh" in await pods(collector)
    machine.now += 10
    machine.process(50, "server", cmdline="/opt/server --password hunter2", ticks=60)
    found = await pods(collector)
    assert found["server"]["cpu_mc"] == 50
    assert "sh:start.sh" not in found


@pytest.mark.parametrize(
    ("comm", "cmdline", "name"),
    [
        ("python3", "/usr/bin/python3 -u /srv/app/manage.py run", "python3:manage.py"),
        ("python3.11", "python3.11 -m agent run", "python3.11:agent"),
        ("python3", "python3 -W ignore -c import-secret-thing", "python3"),
        ("java", "java -Xmx1g -cp /a:/b -jar /opt/app.jar --token=x", "java:app.jar"),
        ("bash", "-bash", "bash"),
        ("bash", "bash /dev/fd/3", "bash"),
        ("node", "node /srv/index.js", "node:index.js"),
        ("celery", "/venv/bin/python /venv/bin/celery worker", "celery"),
        ("systemd-journal", "/lib/systemd/systemd-journald", "systemd-journald"),
        ("postgres", "postgres: checkpointer", "postgres"),
        ("a) b (c", "", "a) b (c"),
        ("kube-apiserver", "kube-apiserver --secret=1", "kube-apiserver"),
    ],
)
async def test_a_command_is_named_without_its_arguments(machine, comm, cmdline, name):
    machine.process(60, comm, cmdline=cmdline)
    assert list(await pods(machine.collector())) == [name]


async def test_a_process_hidden_from_us_is_still_counted_by_its_command(machine):
    machine.process(70, "python3", cmdline="python3 x.py")
    (machine.proc / "70" / "statm").unlink()
    (machine.proc / "70" / "cmdline").unlink()
    found = await pods(machine.collector())
    assert found["python3"]["mem_rss"] is None


async def test_at_most_five_hundred_groups_and_the_rest_together(machine):
    for n in range(620):
        machine.process(1000 + n, f"p{n:03d}", resident=1000 + n, shared=0)
    collected = await machine.collector().collect(0)
    found = rows(collected, "pod")
    assert len(found) == 500
    assert rows(collected, "node")["box"]["pods"] == 500
    assert "p619" in found
    assert "p000" not in found
    assert found["other"]["mem_ws"] == sum(1000 + n for n in range(121)) * PAGE


def test_a_group_reported_before_does_not_flicker():
    units = [Unit(f"u{n}", mem_ws=1000 - n) for n in range(20)]
    kept = keep_largest(units, cpu_cap_mc=1000, mem_cap=1000, limit=11)
    assert [u.name for u in kept][-1] == "other"
    names = frozenset(u.name for u in kept)
    units[9].mem_ws, units[10].mem_ws = 985, 995
    again = keep_largest(units, cpu_cap_mc=1000, mem_cap=1000, limit=11, stay=names)
    assert {u.name for u in again} == names


# systemd


def unit_v2(machine, path, *, usec, current, inactive=0, anon=0, populated=1):
    directory = machine.cgroup / path
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "cpu.stat").write_text(f"usage_usec {usec}\nuser_usec 1\nsystem_usec 1\n")
    (directory / "memory.current").write_text(f"{current}\n")
    (directory / "memory.stat").write_text(f"anon {anon}\nfile 9\ninactive_file {inactive}\n")
    (directory / "cgroup.events").write_text(f"populated {populated}\nfrozen 0\n")


async def test_systemd_units_of_version_2_have_exact_numbers(machine):
    (machine.cgroup / "cgroup.controllers").write_text("cpu memory\n")
    nginx, tty = "system.slice/nginx.service", "system.slice/system-getty.slice/getty@tty1.service"
    escaped = "system.slice/systemd-fsck@dev-disk-by\\x2dlabel.service"
    session = "user.slice/user-1000.slice"
    unit_v2(machine, nginx, usec=5_000_000, current=900_000, inactive=300_000, anon=500_000)
    unit_v2(machine, tty, usec=0, current=4096)
    unit_v2(machine, escaped, usec=0, current=4096)
    unit_v2(machine, session, usec=0, current=10**6)
    unit_v2(machine, f"{session}/session-3.scope", usec=0, current=10**6)
    unit_v2(machine, "system.slice/gone.service", usec=1, current=0, populated=0)
    unit_v2(machine, "init.scope", usec=0, current=4096)
    collector = machine.collector()
    collected = await collector.collect(0)
    found = rows(collected, "pod")
    assert sorted(found) == [
        "getty@tty1.service",
        "init.scope",
        "nginx.service",
        "systemd-fsck@dev-disk-by-label.service",
        "user-1000.slice",
    ]
    assert found["nginx.service"]["cpu_mc"] is None
    machine.now += 10
    unit_v2(machine, nginx, usec=7_500_000, current=100, inactive=300_000, anon=500_000)
    collected = await collector.collect(0)
    found = rows(collected, "pod")
    assert found["nginx.service"] == {
        "cpu_mc": 250,
        "mem_ws": 0,
        "mem_rss": 500_000,
        "fs_used": None,
        "net_rx_bps": None,
        "net_tx_bps": None,
        "restarts": None,
    }
    [sample] = [s for s in collected.samples if s.name == "nginx.service"]
    assert sample.attrs == {"unit": "nginx.service", "cgroup": nginx}
    assert (sample.ns, sample.node) == ("host", "box")
    # Restarted: the counter begins anew.
    machine.now += 10
    unit_v2(machine, nginx, usec=10, current=100)
    assert (await pods(collector))["nginx.service"]["cpu_mc"] is None


async def test_systemd_units_of_version_1_have_exact_numbers(machine):
    def write(usage_ns):
        cpu = machine.cgroup / "cpu,cpuacct"
        (cpu / "system.slice/sshd.service").mkdir(parents=True, exist_ok=True)
        (cpu / "cpuacct.usage").write_text("1\n")
        (cpu / "system.slice/sshd.service/cpuacct.usage").write_text(f"{usage_ns}\n")
        memory = machine.cgroup / "memory/system.slice/sshd.service"
        memory.mkdir(parents=True, exist_ok=True)
        (memory / "memory.usage_in_bytes").write_text("800000\n")
        (memory / "memory.stat").write_text("rss 1\ntotal_rss 4000\ntotal_inactive_file 300000\n")

    write(10**9)
    collector = machine.collector()
    await collector.collect(0)
    machine.now += 20
    write(3 * 10**9)
    values = (await pods(collector))["sshd.service"]
    assert (values["cpu_mc"], values["mem_ws"], values["mem_rss"]) == (100, 500_000, 4000)


async def test_without_memory_accounting_the_cpu_is_still_there(machine):
    (machine.cgroup / "cgroup.controllers").write_text("cpu\n")
    unit_v2(machine, "system.slice/a.service", usec=0, current=1)
    for name in ("memory.current", "memory.stat"):
        (machine.cgroup / "system.slice/a.service" / name).unlink()
    collector = machine.collector()
    await collector.collect(0)
    machine.now += 10
    (machine.cgroup / "system.slice/a.service/cpu.stat").write_text("usage_usec 1000000\n")
    values = (await pods(collector))["a.service"]
    assert (values["cpu_mc"], values["mem_ws"], values["mem_rss"]) == (100, None, None)


async def test_a_cgroup_tree_without_services_gives_way_to_process_groups(machine):
    (machine.cgroup / "cgroup.controllers").write_text("cpu memory\n")
    machine.process(10, "nginx")
    assert list(await pods(machine.collector())) == ["nginx"]


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
