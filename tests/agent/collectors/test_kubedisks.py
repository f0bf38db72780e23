"""Whether the kubelet's two filesystems are one disk, whenever each of them was read."""

from agent.collectors.kubedisks import NodeDisks
from tests.agent.kubernetes import GIB, real_answer, rfc3339

AT = 1_800_000_000.0


def disk(free, *, at=AT, cap=100, inodes_free=6_000_000, **more):
    return {
        "time": rfc3339(at),
        "availableBytes": int(free * GIB),
        "capacityBytes": cap * GIB,
        "usedBytes": int((cap - free) * GIB),
        "inodes": 6_500_000,
        "inodesFree": inodes_free,
        **more,
    }


def capacity(disks, nodefs, imagefs):
    _, totals = disks.read("n1", {"node": {"fs": nodefs, "runtime": {"imageFs": imagefs}}})
    return totals["fs_cap"]


def test_the_disk_of_a_real_node_is_counted_once():
    samples, totals = NodeDisks().read("node-a", real_answer("kubelet_stats_summary"))
    assert totals == {
        "fs_used": 23_288_635_392,
        "fs_cap": 270_553_174_016,
        "inodes_total": 16_777_216,
        "inodes_free": 16_151_130,
    }
    assert [(one.name, one.attrs) for one in samples] == [
        ("nodefs", {}),
        ("imagefs", {"shares": "nodefs"}),
    ]


def test_one_disk_stays_one_while_it_is_written_between_its_two_readings():
    disks = NodeDisks()
    for second in range(0, 300, 15):
        nodefs = disk(60 - second / 30, at=AT + second, inodes_free=6_000_000 - 50 * second)
        imagefs = disk(60.2 - second / 30, at=AT + second - 8)
        assert capacity(disks, nodefs, imagefs) == 100 * GIB


def test_one_disk_stays_one_when_much_is_deleted_between_its_two_readings():
    disks = NodeDisks()
    assert capacity(disks, disk(20), disk(20)) == 100 * GIB
    assert capacity(disks, disk(80), disk(20, at=AT - 8)) == 100 * GIB
    assert capacity(disks, disk(80), disk(80)) == 100 * GIB


def test_two_disks_of_one_size_are_two_even_while_they_are_filled_alike():
    disks = NodeDisks()
    for _ in range(4):
        assert capacity(disks, disk(60), disk(90)) == 200 * GIB
    assert capacity(disks, disk(60), disk(60)) == 200 * GIB


def test_two_disks_that_begin_alike_become_two():
    disks = NodeDisks()
    assert capacity(disks, disk(99), disk(99)) == 100 * GIB
    found = [capacity(disks, disk(60), disk(90)) for _ in range(4)]
    assert found[-1] == 200 * GIB


def test_two_disks_of_one_size_differ_by_their_inodes_too():
    assert capacity(NodeDisks(), disk(99), disk(99, inodes_free=6_400_000)) == 200 * GIB


def test_disks_of_different_sizes_are_two():
    assert capacity(NodeDisks(), disk(40), disk(40, cap=50)) == 150 * GIB


def test_a_disk_whose_numbers_cannot_be_spoils_no_sum():
    disks = NodeDisks()
    impossible = disk(40, cap=50, usedBytes=2**64 - 4096)
    samples, totals = disks.read(
        "n1", {"node": {"fs": disk(40), "runtime": {"imageFs": impossible}}}
    )
    assert (totals["fs_used"], totals["fs_cap"]) == (60 * GIB, 100 * GIB)
    assert samples[1].values[:2] == (None, None)


def test_a_node_that_is_gone_is_forgotten():
    disks = NodeDisks()
    for _ in range(4):
        capacity(disks, disk(60), disk(90))
    disks.keep_only([])
    assert capacity(disks, disk(60), disk(60)) == 100 * GIB
