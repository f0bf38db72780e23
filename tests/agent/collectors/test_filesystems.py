import asyncio
import threading

from agent.collectors.filesystems import Filesystems
from tests.agent.machine import ROOT_MOUNT, disk, rows


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
    assert by_name["/mnt/ro"].attrs["ro"] == "1"
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


async def test_layers_of_an_image_at_the_root_are_no_disk(machine):
    machine.write(
        "self/mountinfo",
        "1 0 0:33 / / ro,relatime - overlay composefs ro,lowerdir+=/a,datadir+=/b,redirect_dir=on\n"
        "2 1 254:4 /ostree /sysroot ro - xfs /dev/vda4 rw\n"
        "3 1 254:4 /ostree/var /var rw - xfs /dev/vda4 rw\n",
    )
    machine.disks |= {
        "/": disk(blocks=10, free=0, available=0),
        "/var": disk(blocks=1000, free=400, available=400),
    }
    collected = await machine.collector().collect(0)
    assert sorted(rows(collected, "filesystem")) == ["/var"]
    assert rows(collected, "node")["box"]["fs_cap"] == 1000 * 4096


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
        assert "filesystem /mnt/nfs" in collected.problems
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
    assert collected.problems == {"filesystem /": "Input/output error"}
    assert rows(collected, "node")["box"]["fs_used"] is None


def space_of_one(name, fstype="ext4", options="rw", device="/dev/vdb", more="rw", at="254:16"):
    return f"40 27 {at} / {name} {options} - {fstype} {device} {more}\n"


async def test_one_bad_filesystem_is_named_and_spoils_no_sum(machine):
    machine.write("self/mountinfo", ROOT_MOUNT + space_of_one("/bad"))
    for bad in (
        disk(blocks=500, free=900, available=400),
        disk(blocks=500, free=400, available=900),
        disk(blocks=500, free=400, available=2**64 - 5),  # a negative number, without its sign
    ):
        machine.disks["/bad"] = bad
        collected = await machine.collector().collect(0)
        assert collected.problems == {"filesystem /bad": "it reports more free than it has"}
        found = rows(collected, "filesystem")
        assert set(found["/bad"].values()) == {None}
        assert rows(collected, "node")["box"]["fs_cap"] == 23_000 * 4096


async def test_inodes_that_cannot_be_take_only_themselves_away(machine):
    machine.write("self/mountinfo", ROOT_MOUNT + space_of_one("/odd"))
    machine.disks["/odd"] = disk(blocks=10, free=5, available=5, files=3, files_free=4)
    collected = await machine.collector().collect(0)
    assert rows(collected, "filesystem")["/odd"]["cap"] == 10 * 4096
    assert rows(collected, "node")["box"]["inodes_total"] == 1000


async def test_what_is_not_the_nodes_own_is_listed_and_not_summed(machine):
    machine.write(
        "self/mountinfo",
        ROOT_MOUNT
        + space_of_one("/mnt/drive", "fuse.rclone", device="drive:Media", at="0:50")
        + space_of_one("/mnt/a", "fuse.s3fs", device="s3fs", at="0:51")
        + space_of_one("/mnt/b", "fuse.s3fs", device="s3fs", at="0:52")
        + space_of_one("/mnt/image", device="/dev/loop3", at="7:3"),
    )
    listed = ("/mnt/a", "/mnt/b", "/mnt/drive", "/mnt/image")
    machine.disks |= dict.fromkeys(listed, disk(blocks=10**9, free=10**8, available=10**8))
    collected = await machine.collector().collect(0)
    assert sorted(rows(collected, "filesystem")) == ["/", *listed]
    assert rows(collected, "node")["box"]["fs_cap"] == 23_000 * 4096


async def test_a_filesystem_that_cannot_be_written_says_so(machine):
    machine.write(
        "self/mountinfo",
        ROOT_MOUNT
        + space_of_one("/broken", more="ro,errors=remount-ro", at="8:1")
        + space_of_one("/bound", options="ro,nosuid", at="8:2")
        + space_of_one("/host", options="ro", at="8:3")  # a container's view of the machine
        + space_of_one("/host/data", options="ro", at="8:4")
        + space_of_one("/host/cd", options="ro", more="ro", at="8:5"),
    )
    points = ("/broken", "/bound", "/host", "/host/data", "/host/cd")
    machine.disks |= dict.fromkeys(points, disk(blocks=10, free=5, available=5))
    collected = await machine.collector().collect(0)
    flags = {s.name: s.attrs.get("ro") for s in collected.samples if s.kind == "filesystem"}
    assert flags == {
        "/": None, "/broken": "1", "/bound": "1", "/host": None, "/host/data": None,
        "/host/cd": "1",
    }  # fmt: skip


async def test_a_name_whose_letters_the_kernel_escapes_byte_by_byte_is_whole(machine):
    machine.write("self/mountinfo", ROOT_MOUNT + space_of_one("/K\\303\\266ln\\040x"))
    machine.disks["/K\u00f6ln x"] = disk(blocks=10, free=5, available=5)
    assert "/K\u00f6ln x" in rows(await machine.collector().collect(0), "filesystem")


async def test_more_filesystems_than_are_read_are_a_problem(machine):
    many = (space_of_one(f"/d{n}", at=f"9:{n}") for n in range(300))
    machine.write("self/mountinfo", ROOT_MOUNT + "".join(many))
    collected = await machine.collector().collect(0)
    assert collected.problems == {"filesystems": "200 of 301 are read"}
