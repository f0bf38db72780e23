"""The ``influxdb2`` source against a real InfluxDB 2 that Telegraf's points are written to."""

from __future__ import annotations

import time
from collections.abc import Iterator
from math import floor

import pytest

from metrics.series.catalog import FIELD_NAMES
from metrics.series.rows import Cell, SeriesInfo, SeriesKey
from metrics.series.source_answer import SourceAnswer
from metrics.sources.base import Resolution
from metrics.sources.influxdb2.source import Influx2Source
from metrics.sources.parse_concurrency import ParseSlot
from opscenter.core.errors import BadResponseError, InvalidInputError
from tests.servers.influxdb2 import Influx2Server, given_influxdb2

NOW = int(time.time())
START = NOW // 60 * 60 - 3600
MINUTES = 20
END = START + 60 * MINUTES
RESET = START + 600  # when the counters of one node and one pod begin again
NODES = ("node-a", "node-b")
PODS = (("default", "web 1,x=y", "node-a"), ("kube-system", "dns", "node-b"))
CONTAINERS = ("main", "side")


@pytest.fixture(scope="module")
def server(starts_servers) -> Influx2Server:
    return given_influxdb2()


@pytest.fixture(scope="module")
def telegraf(server: Influx2Server) -> Iterator[str]:
    """Return a bucket with samples every 20 s of two nodes, their hosts and two pods."""
    with server.bucket(seconds=86_400) as bucket:
        server.write(bucket, [line for t in range(START, END, 20) for line in samples(t)])
        yield bucket


def number(name: str, t: int) -> int:
    """Return a sample of a gauge."""
    return 1_000_000 * (sum(map(ord, name)) % 97) + (t // 20 * 7919) % 900_001


def counter(name: str, t: int) -> int:
    """Return a sample of a counter; those of node-a and of the pod dns are reset once."""
    begin = RESET if t >= RESET and ("node-a" in name or "dns" in name) else START - 1000
    return (t - begin) * (50 + sum(map(ord, name)) % 31) + (t // 20 % 7) * 11


def samples(t: int) -> Iterator[str]:
    for node in NODES:
        tags = f"node_name={node},host=telegraf-{node}"
        yield (
            f"kubernetes_node,{tags} cpu_usage_nanocores={number(node + 'cpu', t)}i,"
            f"memory_working_set_bytes={number(node + 'ws', t)}i,memory_available_bytes=5i,"
            f"fs_used_bytes={number(node + 'fs', t)}i,fs_capacity_bytes=99000000000i,"
            f"network_rx_bytes={counter(node + 'rx', t)}i,"
            f"network_tx_bytes={counter(node + 'tx', t)}i {t}"
        )
        yield (
            f"kubernetes_node,node_name={node},host=inventory capacity_millicpu_cores=4000i,"
            f"capacity_cpu_cores=4i,capacity_memory_bytes=17179869184i {t}"
        )
        ready = 1 if node == "node-a" else 0
        for condition, state in (("Ready", ready), ("DiskPressure", 0)):
            tags = f"node_name={node},condition={condition},status=x"
            yield f"kubernetes_node,{tags} status_condition={state}i {t}"
    for ns, pod, node in PODS:
        named = pod.replace(",", "\\,").replace("=", "\\=").replace(" ", "\\ ")
        tags = f"namespace={ns},pod_name={named},node_name={node},host=telegraf-{node}"
        for container in CONTAINERS:
            name = pod + container
            yield (
                f"kubernetes_pod_container,{tags},container_name={container} "
                f"cpu_usage_nanocores={number(name + 'cpu', t)}i,"
                f"memory_working_set_bytes={number(name + 'ws', t)}i,"
                f"memory_rss_bytes={number(name + 'rss', t)}i,"
                f"rootfs_used_bytes={number(name + 'root', t)}i,"
                f"logsfs_used_bytes={number(name + 'logs', t)}i {t}"
            )
            state = "running" if t % 60 else "waiting"
            yield (
                f"kubernetes_pod_container,namespace={ns},pod_name={named},node_name={node},"
                f"container_name={container},state={state},host=inventory "
                f"restarts_total={t // 60 % 50}i {t}"
            )
        yield (
            f"kubernetes_pod_network,{tags} rx_bytes={counter(pod + 'rx', t)}i,"
            f"tx_bytes={counter(pod + 'tx', t)}i {t}"
        )
    # node-a has Telegraf's host inputs too, and so has a machine that is no node.
    for host in ("node-a", "stranger"):
        yield f"system,host={host} load1={(t // 20 % 10) / 8},n_cpus=4i,uptime={t - START}i {t}"
        yield f"cpu,host={host},cpu=cpu-total usage_idle=40,usage_iowait=10 {t}"
        yield f"mem,host={host} total=8000000000i,available=3000000000i {t}"
        for path, device in (("/", "sda1"), ("/var/lib/x", "sda1"), ("/data", "sdb1")):
            yield (
                f"disk,host={host},path={path},device={device},fstype=ext4 "
                f"used={number(path + device, t)}i,total=90000000000i,"
                f"inodes_total=1000i,inodes_free=900i {t}"
            )
        yield f"disk,host={host},path=/run,device=tmpfs,fstype=tmpfs used=1i,total=2i {t}"
        for interface in ("eth0", "eth1", "lo", "veth12"):
            yield f"net,host={host},interface={interface} bytes_recv={t}i,bytes_sent={t}i {t}"


def mean(name: str, minute: int, scale: int = 1) -> int:
    values = [number(name, t) for t in range(minute, minute + 60, 20)]
    return floor(sum(values) / 3 / scale + 0.5)


def summed(names: list[str], minute: int, scale: int = 1) -> int:
    total = sum(sum(number(name, t) for t in range(minute, minute + 60, 20)) / 3 for name in names)
    return floor(total / scale + 0.5)


def rate(name: str, minute: int) -> int | None:
    change = counter(name, minute + 40) - counter(name, minute - 20)
    return None if change < 0 or minute == START else floor(change / 60 + 0.5)


def expected() -> dict[tuple[int, SeriesKey], dict[str, int | None]]:
    rows: dict[tuple[int, SeriesKey], dict[str, int | None]] = {}
    for minute in range(START, END, 60):
        for node in NODES:
            disks = [("/", "sda1"), ("/data", "sdb1")] if node == "node-a" else []
            row = {
                "cpu_mc": mean(node + "cpu", minute, 1_000_000),
                "cpu_cap_mc": 4000,
                "mem_ws": mean(node + "ws", minute),
                "mem_cap": 17179869184,
                "net_rx_bps": rate(node + "rx", minute),
                "net_tx_bps": rate(node + "tx", minute),
                "pods": 1,
                "ready": 1 if node == "node-a" else 0,
            }
            for path, device in disks:
                rows[minute, SeriesKey("filesystem", node, path)] = {
                    "used": mean(path + device, minute),
                    "cap": 90000000000,
                    "inodes_total": 1000,
                    "inodes_free": 900,
                }
            if disks:
                row["fs_used"] = sum(mean(path + device, minute) for path, device in disks)
                row |= {"fs_cap": 180000000000, "inodes_total": 2000, "inodes_free": 1800}
                loads = [(t // 20 % 10) / 8 for t in range(minute, minute + 60, 20)]
                row["load1_m"] = floor(sum(loads) / 3 * 1000 + 0.5)
                row["uptime_s"] = minute + 20 - START
            else:
                used = mean(node + "fs", minute)
                rows[minute, SeriesKey("filesystem", node, "nodefs")] = {
                    "used": used,
                    "cap": 99000000000,
                }
                row |= {"fs_used": used, "fs_cap": 99000000000}
            rows[minute, SeriesKey("node", "", node)] = row
        for ns, pod, _ in PODS:
            names = [pod + container for container in CONTAINERS]
            parts = [name + part for name in names for part in ("root", "logs")]
            rows[minute, SeriesKey("pod", ns, pod)] = {
                "cpu_mc": summed([name + "cpu" for name in names], minute, 1_000_000),
                "mem_ws": summed([name + "ws" for name in names], minute),
                "mem_rss": summed([name + "rss" for name in names], minute),
                "fs_used": summed(parts, minute),
                "net_rx_bps": rate(pod + "rx", minute),
                "net_tx_bps": rate(pod + "tx", minute),
                "restarts": 2 * (minute // 60 % 50),
            }
    return rows


async def fetch(
    server: Influx2Server, bucket: str, start: int, end: int, **options
) -> SourceAnswer:
    source = Influx2Source(options.pop("org", server.org), bucket)
    with ParseSlot("live") as slot:
        async with server.client(**options) as client:
            return await source.fetch(client, start, end, now=NOW, slot=slot)


async def test_every_number_is_what_telegraf_wrote(server, telegraf):
    answer = await fetch(server, telegraf, START, END)
    got = {(row.ts, row.key): row.cells for row in answer.rows}
    want = {
        place: tuple(
            None if row.get(name) is None else Cell(1, row[name], row[name], row[name])
            for name in FIELD_NAMES[place[1].kind]
        )
        for place, row in expected().items()
    }
    assert got == want
    assert len(got) == len(answer.rows)
    assert (answer.start, answer.end, answer.resolution) == (START, END, 60)
    assert (answer.oldest, answer.newest_end, answer.kind) == (START, END, "kubernetes")
    assert answer.minutes_alive == set(range(START, END, 60))
    assert SeriesInfo(SeriesKey("pod", "kube-system", "dns"), "node-b") in answer.infos
    assert list(answer.notes) == ["left out: 1 hosts of Telegraf that are not nodes, e.g. stranger"]


async def test_a_window_in_the_middle_has_the_same_numbers_as_the_whole(server, telegraf):
    whole = await fetch(server, telegraf, START, END)
    start, end = START + 300, START + 900
    middle = await fetch(server, telegraf, start, end)
    assert sorted(middle.rows) == sorted(row for row in whole.rows if start <= row.ts < end)
    live = await fetch(server, telegraf, end - 120, end)
    assert sorted(live.rows) == sorted(row for row in whole.rows if end - 120 <= row.ts < end)


async def test_hosts_without_kubernetes_are_nodes(server):
    with server.bucket() as bucket:
        lines = [line for t in range(START, START + 180, 20) for line in samples(t)]
        server.write(bucket, [line for line in lines if not line.startswith("kubernetes")])
        answer = await fetch(server, bucket, START, START + 180)
    assert answer.kind == "host"
    rows = {(row.ts, row.key.name): row for row in answer.rows if row.key.kind == "node"}
    assert {name for _, name in rows} == {"node-a", "stranger"}
    cells = dict(zip(FIELD_NAMES["node"], rows[START + 60, "stranger"].cells, strict=True))
    assert {name: cell.total for name, cell in cells.items() if cell} == {
        "cpu_mc": 2000,
        "cpu_cap_mc": 4000,
        "mem_ws": 5000000000,
        "mem_cap": 8000000000,
        "fs_used": cells["fs_used"].total,
        "fs_cap": 180000000000,
        "inodes_total": 2000,
        "inodes_free": 1800,
        "net_rx_bps": 2,
        "net_tx_bps": 2,
        "load1_m": cells["load1_m"].total,
        "uptime_s": 80,
    }


async def test_what_two_telegrafs_say_of_a_minute_is_averaged(server):
    with server.bucket() as bucket:
        tags = "namespace=a,pod_name=b,node_name=c,container_name=d"
        server.write(
            bucket,
            [
                f"kubernetes_pod_container,{tags},host=old memory_rss_bytes=100i {START}",
                f"kubernetes_pod_container,{tags},host=new memory_rss_bytes=301i {START + 30}",
            ],
        )
        answer = await fetch(server, bucket, START, START + 60)
    (pod,) = [row for row in answer.rows if row.key.kind == "pod"]
    assert pod.cells[FIELD_NAMES["pod"].index("mem_rss")] == Cell(1, 201, 201, 201)


async def test_an_answer_that_is_too_large_is_asked_for_in_pieces(server, telegraf):
    whole = await fetch(server, telegraf, START, END)
    pieces = await fetch(server, telegraf, START, END, max_bytes=40_000)
    assert sorted(pieces.rows) == sorted(whole.rows)
    with pytest.raises(BadResponseError, match="one minute of the bucket") as refused:
        await fetch(server, telegraf, START, END, max_bytes=3_000)
    assert refused.value.problem == "too_many_series"


@pytest.mark.parametrize(
    "bucket", ["nosuch", 'no "such', '") |> drop(', "${bucket}", "no\nsuch", "\\"]
)
async def test_a_missing_bucket_is_named_whatever_its_name_says(server, bucket):
    with pytest.raises(BadResponseError, match="could not find bucket") as refused:
        await fetch(server, bucket, START, END)
    assert refused.value.problem == "database_missing"


async def test_a_wrong_token_and_a_wrong_organisation_are_named(server, telegraf):
    with pytest.raises(BadResponseError) as refused:
        await fetch(server, telegraf, START, END, token="wrong")
    assert refused.value.problem == "credentials_refused"
    with pytest.raises(BadResponseError, match="organization name") as refused:
        await fetch(server, telegraf, START, END, org='no"such')
    assert refused.value.problem == "query_refused"


async def test_minutes_that_may_still_come_are_not_taken_for_absent(server):
    now = int(time.time()) // 60 * 60
    with server.bucket() as bucket:
        server.write(bucket, [line for t in range(now - 600, now - 240, 20) for line in samples(t)])
        answer = await fetch(server, bucket, now - 600, now - 60)
    assert answer.newest_end == now - 240
    assert answer.end == now - 240


async def test_single_samples_are_what_minutes_are_made_of(server, telegraf):
    source = Influx2Source(server.org, telegraf)
    start, end = START + 120, START + 420
    async with server.client() as client:

        async def raw(kind, ns, name, field):
            return await source.raw(client, SeriesKey(kind, ns, name), field, start, end, now=NOW)

        answer = await raw("pod", "default", "web 1,x=y", "mem_rss")
        assert dict(zip(answer.t, answer.v, strict=True)) == {
            t: sum(number("web 1,x=y" + c + "rss", t) for c in CONTAINERS)
            for t in range(start, end, 20)
        }
        assert answer.step == 20
        answer = await raw("node", "", "node-b", "net_rx_bps")
        assert dict(zip(answer.t, answer.v, strict=True)) == {
            t: (counter("node-brx", t) - counter("node-brx", t - 20)) / 20
            for t in range(start, end, 20)
        }
        answer = await raw("filesystem", "node-a", "/data", "used")
        assert answer.v == [number("/datasdb1", t) for t in range(start, end, 20)]
        for name in ('a"b', "${bucket}", '") |> drop() //', "a\nb", "\\", "\u202ex\x00"):
            assert not (await raw("pod", "default", name, "cpu_mc")).t
        with pytest.raises(InvalidInputError, match="on its own"):
            await raw("node", "", "node-a", "pods")


async def test_the_probe_says_what_is_there_and_why_the_rest_is_not(server, telegraf):
    source = Influx2Source(server.org, telegraf)
    async with server.client() as client:
        probe = await source.probe(client, now=NOW)
    assert probe.product == "InfluxDB"
    assert probe.version.startswith("v2")
    assert (probe.oldest, probe.newest) == (START, END - 20)
    assert probe.series == {"node": 2, "filesystem": 3, "pod": 2}
    fields = {(one.kind, one.field): one for one in probe.fields}
    assert fields["node", "load1_m"].series == 1
    assert {name for (_, name), one in fields.items() if not one.series} == {
        "etcd_fsync_us",
        "etcd_leader_changes",
    }
    assert probe.resolutions == (Resolution(60, 86_400, "1m"),)
    assert "the bucket keeps 24 h" in probe.notes


async def test_the_probe_of_an_empty_bucket_names_what_is_missing(server):
    with server.bucket() as bucket:
        async with server.client() as client:
            probe = await Influx2Source(server.org, bucket).probe(client, now=NOW)
    assert probe.newest is None
    assert all(not one.series and one.why for one in probe.fields)
