"""One machine, seen by the agent, by Prometheus and by Telegraf: its sums are the same."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from metrics.series.catalog import FIELD_NAMES
from metrics.series.rows import SeriesInfo, SeriesKey
from metrics.series.source_answer import SourceAnswer
from metrics.sources.influxdb2.source import Influx2Source
from metrics.sources.parse_concurrency import ParseSlot
from metrics.sources.prometheus.source import PrometheusSource
from tests.agent.machine import FakeMachine, disk, rows
from tests.servers.client import DirectClient
from tests.servers.flux import FluxStandIn, Point
from tests.servers.prometheus import Series, prometheus

BLOCK = 4096
MINUTES = 10
POD = "/var/lib/kubelet/pods/0b6f5a0e-5b1f-4f6e-9d53-6a1f0c1d2e3f/volumes/kubernetes.io~csi/p/mount"


@dataclass(frozen=True)
class Mounted:
    """A mounted filesystem; sizes in blocks, ``reserved`` for root."""

    point: str
    device: str
    fstype: str
    number: str  # major:minor
    size: int
    free: int
    reserved: int = 0
    read_only: bool = False
    listed: bool = True

    @property
    def available(self) -> int:
        return self.free - self.reserved


MOUNTS = (
    Mounted("/", "/dev/vda1", "ext4", "254:1", 25_000, 15_000, reserved=1_000),
    Mounted("/boot/efi", "/dev/vda2", "vfat", "254:2", 100, 60),
    Mounted("/srv/bound", "/dev/vda1", "ext4", "254:1", 25_000, 15_000, 1_000, listed=False),
    Mounted("/pool", "/dev/vdb", "btrfs", "0:40", 9_000, 4_000),
    Mounted("/pool/home", "/dev/vdb", "btrfs", "0:40", 9_000, 4_000, listed=False),
    Mounted("/data", "data", "zfs", "0:44", 3_698, 3_690),
    Mounted("/data/media", "data/media", "zfs", "0:45", 4_970, 3_690),
    Mounted("/data/media/new", "data/media/new", "zfs", "0:46", 3_983, 3_690),
    Mounted("/data/.zfs/snapshot/a", "data@a", "zfs", "0:47", 3_698, 3_690, listed=False),
    Mounted("/mnt/cold", "/dev/vdc", "xfs", "254:32", 700, 300, read_only=True),
    Mounted("/mnt/ntfs", "/dev/sdb1", "fuseblk", "8:17", 800, 500),
    Mounted("/mnt/bad", "/dev/sdc1", "ext4", "8:33", 500, 230_000),
    Mounted("/mnt/nas", "nas.example:/export", "nfs4", "0:50", 10**7, 10**6),
    Mounted("/mnt/drive", "drive:Media", "fuse.rclone", "0:51", 10**9, 10**8),
    Mounted("/mnt/s3", "s3fs", "fuse.s3fs", "0:52", 10**10, 10**10),
    Mounted("/mnt/host", "/run/host_mark/home", "fakeowner", "0:53", 10**9, 10**8),
    Mounted("/data/docker/devicemapper/mnt/a", "/dev/dm-3", "xfs", "253:3", 500, 1, listed=False),
    Mounted("/proc/fs/nfsd", "nfsd", "nfsd", "0:54", 5, 5, listed=False),
    Mounted("/mnt/image", "/dev/loop7", "ext4", "7:7", 4_000, 2_000),
    Mounted("/snap/core/1", "/dev/loop0", "squashfs", "7:0", 100, 0, listed=False),
    Mounted("/run", "tmpfs", "tmpfs", "0:22", 2_000, 1_900, listed=False),
    Mounted(POD, "/dev/longhorn/p", "ext4", "8:48", 6_000, 5_000, listed=False),
)
# vda1, vda2, btrfs, the pool's free space once, xfs and NTFS.
USED = BLOCK * (10_000 + 40 + 5_000 + (8 + 1_280 + 293) + 400 + 300)
CAP = USED + BLOCK * (14_000 + 60 + 4_000 + 3_690 + 300 + 500)
LISTED = sorted(mount.point for mount in MOUNTS if mount.listed)

# Received bytes a second; what is sent is half of it.
TRAFFIC = {
    "lo": 9_000, "ens1": 1_000, "ens2": 500, "bond0": 1_500, "bond0.120": 1_400, "docker0": 300,
    "veth1a2b": 300, "eni1a2b3c4d5e6": 70, "azv12ab34": 60, "gke52c8a1b2c3d": 50, "cali12ab": 40,
    "genev_sys_6081": 30, "ovn-k8s-mp0": 20, "cbr0": 10, "cilium_host": 5, "lxc12ab34cd56ef": 4,
    "vxlan.calico": 3, "wg0": 2, "tailscale0": 1, "eth0": 200, "enP35596s1": 150, "ppp0": 80,
    "pppoe-wan": 7, "kubespan": 90, "hassio": 11, "ens1npf0vf0": 12, "ib0.80fe": 13,
    "tun_office": 14,
}  # fmt: skip
RECEIVED = 1_000 + 500 + 200


@pytest.fixture
def start() -> int:
    return int(time.time()) // 3600 * 3600 - 7200


async def test_the_agent_has_the_sums(tmp_path):
    machine = FakeMachine(tmp_path)
    machine.write("self/mountinfo", "".join(map(_line_of_mountinfo, MOUNTS)))
    machine.disks = {
        m.point: disk(blocks=m.size, free=m.free, available=m.available, files=0) for m in MOUNTS
    }
    collector = machine.collector()
    machine.net(**dict.fromkeys(TRAFFIC, (0, 0)))
    await collector.collect(0)
    machine.now += 60
    machine.net(**{name: (60 * rate, 30 * rate) for name, rate in TRAFFIC.items()})
    collected = await collector.collect(0)
    _check(rows(collected, "node")["box"])
    listed = {s.name: s.attrs for s in collected.samples if s.kind == "filesystem"}
    _check_filesystems(listed, dev="/dev/")
    assert collected.problems == {"filesystem /mnt/bad": "it reports more free than it has"}


@pytest.mark.usefixtures("starts_servers")
async def test_prometheus_has_the_same(tmp_path, start):
    end = start + MINUTES * 60
    with prometheus(tmp_path, series=_exported(start, end)) as port:
        async with DirectClient(port) as client:
            with ParseSlot("live") as slot:
                answer = await PrometheusSource().fetch(
                    client, end - 120, end, now=time.time(), slot=slot
                )
    _check(_newest(answer, SeriesKey("node", "", "box:9100")))
    _check_filesystems(_filesystems(answer.infos), dev="/dev/")


async def test_telegraf_has_the_same(start):
    end = start + MINUTES * 60
    bucket = FluxStandIn([p for at in range(start - 60, end, 20) for p in _points(at, start - 60)])
    with ParseSlot("live") as slot:
        answer = await Influx2Source("org", "bucket").fetch(
            bucket, start, end, now=time.time(), slot=slot
        )
    _check(_newest(answer, SeriesKey("node", "", "box")))
    _check_filesystems(_filesystems(answer.infos), dev="")
    assert answer.ignored == MINUTES  # what the bad one says


def _check(values: dict[str, int | None]) -> None:
    sums = {name: values[name] for name in ("fs_used", "fs_cap", "net_rx_bps", "net_tx_bps")}
    assert sums == {
        "fs_used": USED,
        "fs_cap": CAP,
        "net_rx_bps": RECEIVED,
        "net_tx_bps": RECEIVED // 2,
    }


def _check_filesystems(listed: dict[str, dict[str, str]], *, dev: str) -> None:
    assert sorted(listed) == LISTED
    assert {name for name, attrs in listed.items() if attrs.get("ro") == "1"} == {"/mnt/cold"}
    root = {name: listed["/"][name] for name in ("device", "fstype")}
    assert root == {"device": f"{dev}vda1", "fstype": "ext4"}


def _newest(answer: SourceAnswer, key: SeriesKey) -> dict[str, int | None]:
    row = max((row for row in answer.rows if row.key == key), key=lambda row: row.ts)
    return {
        name: None if cell is None else cell.total
        for name, cell in zip(FIELD_NAMES[key.kind], row.cells, strict=True)
    }


def _filesystems(infos: list[SeriesInfo]) -> dict[str, dict[str, str]]:
    return {info.key.name: dict(info.attrs) for info in infos if info.key.kind == "filesystem"}


def _line_of_mountinfo(mount: Mounted) -> str:
    mode = "ro" if mount.read_only or mount.fstype == "squashfs" else "rw"
    root = {"/srv/bound": "/a", "/pool": "/@", "/pool/home": "/@home"}.get(mount.point, "/")
    return (
        f"30 27 {mount.number} {root} {mount.point} {mode} - {mount.fstype} {mount.device} {mode}\n"
    )


def _exported(start: int, end: int) -> list[Series]:
    """Return what node-exporter reports."""
    times = range(start, end + 1, 15)
    us = {"job": "node", "instance": "box:9100"}

    def flat(name: str, value: float, **labels: str) -> Series:
        return name, {**us, **labels}, [(float(at), float(value)) for at in times]

    found = [flat("up", 1), flat("node_uname_info", 1, nodename="box", release="6", machine="x")]
    for mount in MOUNTS:
        labels = {"device": mount.device, "mountpoint": mount.point, "fstype": mount.fstype}
        for name, value in (
            ("size_bytes", mount.size * BLOCK),
            ("free_bytes", mount.free * BLOCK),
            ("avail_bytes", mount.available * BLOCK),
            ("readonly", mount.read_only),
        ):
            found.append(flat(f"node_filesystem_{name}", value, **labels))
    for name, rate in TRAFFIC.items():
        for way, part in (("receive", 1.0), ("transmit", 0.5)):
            counter = [(float(at), 10_000 + (at - start) * rate * part) for at in times]
            found.append((f"node_network_{way}_bytes_total", {**us, "device": name}, counter))
    return found


def _points(at: int, start: int) -> Iterator[Point]:
    """Yield what Telegraf writes at one time."""
    us = {"host": "box"}
    yield Point(at, "mem", us, {"total": 8e9, "available": 6e9})
    yield Point(at, "system", us, {"load1": 0.5, "uptime": 1000, "n_cpus": 2})
    for mount in MOUNTS:
        tags = {
            **us,
            "path": mount.point,
            "device": mount.device.removeprefix("/dev/"),
            "fstype": mount.fstype,
            "mode": "ro" if mount.read_only else "rw",
        }
        fields = {
            "total": mount.size * BLOCK,
            "used": (mount.size - mount.free) * BLOCK,
            "free": mount.available * BLOCK,
        }
        yield Point(at, "disk", tags, fields)
    for name, rate in {**TRAFFIC, "all": 7}.items():
        fields = {
            "bytes_recv": 10_000 + (at - start) * rate,
            "bytes_sent": 10_000 + (at - start) * rate / 2,
        }
        yield Point(at, "net", {**us, "interface": name}, fields)
