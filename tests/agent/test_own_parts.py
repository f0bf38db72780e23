"""The rule that says which filesystems and interfaces are a node's own."""

from __future__ import annotations

import re

import pytest

from agent.own_parts import (
    FACES,
    SECOND_FACES,
    UNLISTED_MOUNTS,
    UNLISTED_TYPES,
    VIRTUAL_INTERFACES,
    Link,
    Usage,
    filesystem_identity,
    listed_device,
    listed_filesystem,
    own_filesystem,
    own_interfaces,
    sum_of,
)

UNLISTED, LISTED, OWN = "unlisted", "listed", "own"


@pytest.mark.parametrize(
    ("mount", "device", "fstype", "is_"),
    [
        ("/", "/dev/vda1", "ext4", OWN),
        ("/", "vda1", "ext4", OWN),  # Telegraf leaves /dev/ out
        ("/boot/efi", "/dev/sda1", "vfat", OWN),
        ("/mnt/usb", "/dev/sdb1", "fuseblk", OWN),
        ("/data", "data/media", "zfs", OWN),
        ("/var/lib/docker", "/dev/sdb", "xfs", OWN),
        ("/var/lib/rancher/k3s", "/dev/sdb", "xfs", OWN),
        ("/home/kubelet", "/dev/sdb", "xfs", OWN),
        ("/run/media/me/stick", "/dev/sdc1", "exfat", OWN),
        ("/", "/dev/loop0", "ext4", OWN),  # all that the machine has
        ("/srv/image", "/dev/loop7", "ext4", LISTED),
        ("/srv/image", "loop7", "ext4", LISTED),
        ("/var/log", "/dev/zram1", "ext4", LISTED),
        ("/mnt/nas", "nas.example:/export", "nfs4", LISTED),
        ("/mnt/nas", "//nas/share", "cifs", LISTED),
        ("/mnt/new", "nas.example:/export", "somefs", LISTED),  # told by its device
        ("/mnt/drive", "drive:Media", "fuse.rclone", LISTED),
        ("/mnt/bucket", "s3fs", "fuse.s3fs", LISTED),
        ("/mnt/bucket", "s3fs", "fuse", LISTED),
        ("/mnt/jfs", "JuiceFS:jfs", "fuse.juicefs", LISTED),
        ("/pool", "a:b", "fuse.mergerfs", LISTED),
        ("/etc/pve", "/dev/fuse", "fuse", LISTED),
        ("/mnt/host", "share", "virtiofs", LISTED),
        ("/cluster", "/dev/mapper/san", "gfs2", LISTED),
        ("/srv/image", "/dev/mapper/loop0p1", "ext4", LISTED),
        ("/mnt/b", "/dev/sda:/dev/sdb", "bcachefs", OWN),
        ("/thin", "/dev/mapper/vg-thin", "xfs", OWN),
        ("C:", "C:", "NTFS", OWN),
        ("/Users", "/run/host_mark/Users", "fakeowner", LISTED),  # Docker Desktop
        ("/mnt/c", "C:", "9p", LISTED),  # WSL
        ("/mnt/ceph", "10.0.0.1:6789,10.0.0.2:6789:/", "ceph", LISTED),
        ("/mnt/ceph", "admin@fsid.data=/", "ceph", LISTED),
        ("/mnt/g", "g1:/vol", "fuse.glusterfs", LISTED),
        ("/mnt/nas6", "[fd00::1]:/x", "nfs4", LISTED),
        ("/afs", "AFS", "auristorfs", LISTED),
        ("/misc", "/etc/auto.misc", "autofs", UNLISTED),
        ("/proc/fs/nfsd", "nfsd", "nfsd", UNLISTED),
        ("/cdrom", "/dev/cd0", "cd9660", UNLISTED),
        ("/var/lib/origin/openshift.local.volumes/pods/u/x", "/dev/sdf", "ext4", UNLISTED),
        ("/data/docker/devicemapper/mnt/a", "/dev/mapper/docker-8:1-2-a", "xfs", UNLISTED),
        ("/run", "tmpfs", "tmpfs", UNLISTED),
        ("/snap/core/1", "/dev/loop0", "squashfs", UNLISTED),
        ("/media/cdrom", "/dev/sr0", "iso9660", UNLISTED),
        ("/x", "overlay", "overlay", UNLISTED),
        ("/home/me/.gvfs", "gvfsd-fuse", "fuse.gvfsd-fuse", UNLISTED),
        ("/data/.zfs/snapshot/a", "data@a", "zfs", UNLISTED),
        ("/var/lib/kubelet/pods/u/volumes/kubernetes.io~csi/p/mount", "/dev/sdc", "ext4", UNLISTED),
        ("/var/snap/microk8s/common/var/lib/kubelet/pods/u/x", "/dev/sdc", "ext4", UNLISTED),
        ("/host/var/lib/kubelet/plugins/x/globalmount", "/dev/sdc", "ext4", UNLISTED),
        ("/rootfs/var/lib/docker/zfs/graph/1", "data/docker/1", "zfs", UNLISTED),
        ("/run/k3s/containerd/x/rootfs", "/dev/sda1", "ext4", UNLISTED),
    ],
)
def test_a_filesystem_is_unlisted_listed_or_the_nodes_own(mount, device, fstype, is_):
    assert listed_filesystem(mount, device, fstype) == (is_ != UNLISTED)
    assert own_filesystem(mount, device, fstype) == (is_ == OWN)


@pytest.mark.parametrize(
    ("name", "listed"),
    [
        ("/dev/vda1", True), ("/", True), ("nodefs", True), ("data/media", True),
        ("/run/media/me/stick", True), ("/system", True), ("/runner", True),
        ("tmpfs", False), ("/dev/shm", False), ("overlay_0-45", False), ("/run/lock", False),
        ("/sys/fs/cgroup", False), ("none", False),
    ],
)  # fmt: skip
def test_a_device_alone_tells_memory_from_disks(name, listed):
    assert listed_device(name) == listed


def test_programs_name_themselves_as_devices_so_their_mounts_are_told_by_path():
    assert filesystem_identity("/a", "s3fs", "fuse.s3fs") != filesystem_identity(
        "/b", "s3fs", "fuse.s3fs"
    )
    assert filesystem_identity("/a", "nas:/x", "nfs") == filesystem_identity("/b", "nas:/x", "nfs")


REAL = (
    "eth0", "eth1", "ens3", "ens5f1np1", "eno1", "enp0s31f6", "enP2p1s0f0np0", "enx00e04c680001",
    "em1", "p1p1", "wlan0", "wlp2s0", "wwan0", "ib0", "hsn0", "usb0", "end0", "lan1", "venet0",
    "eth-public", "lan-uplink", "enp5s0f0v1", "rename4", "wlx0013ef", "idrac",
    "vtnet0", "vmx0", "bge0", "igb0", "mgmt0", "net0", "green0", "enc600", "encf5f0", "ens1np0",
    "wwp0s20u4", "ppp0", "ibp5s0", "enP5p3s0", "ra0", "wlo1", "eth4",
)  # fmt: skip
VIRTUAL = (
    "lo", "lo0", "all", "veth12ab", "docker0", "docker_gwbridge", "podman0", "cni0", "cni-podman0",
    "lxcbr0", "lxc12ab34cd56ef", "lxc_health", "virbr0", "vnet3", "vmbr0", "fwpr100p0", "tap100i0",
    "br0", "br-1a2b", "br_lan", "bridge0", "cbr0", "eni1a2b3c4d5e6", "azv1a2b", "azure0",
    "gke52c8a1b2c3d", "cali12ab", "vxlan.calico", "vxlan-v6.calico", "wireguard.cali", "tunl0",
    "cilium_host", "cilium_net", "cilium_vxlan", "flannel.1", "flannel-wg", "weave", "vethwe-x",
    "antrea-gw0", "genev_sys_6081", "vxlan_sys_4789", "ovn-k8s-mp0", "ovn0", "ovs-system",
    "0a1b2c3d4e5f_h", "kube-ipvs0", "kube-bridge", "nodelocaldns", "wg0", "tailscale0", "tun0",
    "zt5u4y7x2w", "sit0", "gre0", "gretap0", "erspan0", "ip6tnl0", "ip6gre0", "ip_vti0", "dummy0",
    "ifb0", "bond0", "lan-bond", "lan-bond0", "team0", "vlan120", "lan-vlan120", "eth0.120",
    "virbr0-nic", "4a1b2c3d4e5f678", "coredns--1a2b3c", "v-h1a2b3c4", "qvo1a2b3c4d-5e", "lagg0",
    "epair0a", "utun3", "awdl0", "wt0", "he-ipv6", "outline-tun0",
    "bond0.120", "macvtap0", "vrf-blue", "vif1.0", "ve-web", "k6t-eth0", "bat0", "vboxnet0",
    "loopback0", "br-lan", "vmbr0v10", "brq0a1b2c3d-4e", "hassio", "nomad", "xapi1", "vif1.0-emu",
    "switch0", "qvs0", "waydroid0", "vz-zone", "ib0.8001", "ib0.80fe", "enp8s0f0npf0vf0", "pf0hpf",
    "pf0sf3", "nebula1", "ztabcdefgh", "kilo0", "kubespan", "siderolink", "vx-submariner",
    "liqo.host", "liqo-tunnel", "nm-mesh", "ovpns1", "tun_wg0", "tun-firezone", "cscotun0",
    "wgs1", "wg_client", "proton0", "6in4-wan", "qmimux0", "rmnet_data0", "macvlan0", "ipvlan0",
    "imq0", "mgmt-vrf", "enc0",
)  # fmt: skip


@pytest.mark.parametrize("name", REAL)
def test_a_card_counts(name):
    assert own_interfaces([name, *VIRTUAL]) == {name}


@pytest.mark.parametrize("name", VIRTUAL)
def test_what_is_virtual_by_its_name_does_not_count(name):
    assert own_interfaces([name, "eth0"]) == {"eth0"}


@pytest.mark.parametrize(
    ("links", "own"),
    [
        ({}, {"eth0"}),
        ({"eth0": Link(address="a"), "enP3s1": Link(address="a")}, {"eth0"}),
        ({"eth0": Link(address="a"), "enP3s1": Link(address="b")}, {"eth0", "enP3s1"}),
        ({"enP3s1": Link(address="b")}, {"eth0"}),
    ],
)
def test_a_card_with_two_faces_is_told_by_its_address_or_else_by_its_names(links, own):
    assert own_interfaces(["lo", "eth0", "enP3s1"], links) == own


def test_what_is_stacked_or_a_part_does_not_count():
    links = {
        "storage": Link(stacked=True),
        "ens1": Link(hardware=True),
        "ens1nsby": Link(part_of="ens1", hardware=True),
        "web0": Link(hardware=False),
    }
    assert own_interfaces(links, links) == {"ens1"}


@pytest.mark.parametrize(
    ("names", "own"),
    [({"ppp0", "eth0"}, {"eth0"}), ({"ppp0"}, {"ppp0"}), ({"ppp0", "lo"}, {"ppp0"})],
)
def test_a_dialled_line_counts_only_where_no_card_does(names, own):
    assert own_interfaces(names) == own


def test_in_a_container_its_end_of_a_pair_is_all_it_has():
    assert own_interfaces(["lo", "eth0"], {"eth0": Link(stacked=True, hardware=False)}) == {"eth0"}


def test_what_is_used_in_a_pool_adds_up_and_its_free_space_counts_once():
    found = sum_of(
        [
            ("/dev/vda1", "ext4", Usage(40, 100, 1000, 900)),
            ("data", "zfs", Usage(8, 3698, 108, 100)),
            ("data/media", "zfs", Usage(1280, 4970, 150, 100)),
            ("data/small", "zfs", Usage(5, 10, 110, 100)),  # a quota leaves it less
            ("other", "zfs", Usage(1, 2, None, None)),
        ]
    )
    assert found == Usage(40 + 8 + 1280 + 5 + 1, 100 + 8 + 1280 + 5 + 3690 + 2, 1168, 1000)


def test_volumes_of_one_container_report_the_use_of_all():
    volumes = [("disk1s1", 30, 100), ("disk1s5s1", 30, 100), ("disk2s1", 1, 5)]
    found = sum_of((device, "apfs", Usage(used, cap)) for device, used, cap in volumes)
    assert found == Usage(31, 105)


def test_what_cannot_be_is_left_out_of_the_sum():
    good = ("/dev/vda1", "ext4", Usage(40, 100, 1000, 900))
    assert sum_of([good, ("x", "ext4", Usage(-229_376, 500, 10, 5))]) == good[2]
    assert sum_of([good, ("x", "ext4", Usage(7, 5))]) == good[2]
    assert sum_of([good, ("x", "ext4", Usage(1, 5, 10, 11))]) == Usage(41, 105, 1000, 900)
    assert sum_of([]) == Usage()


def test_the_patterns_mean_the_same_in_promql_and_flux():
    for pattern in (UNLISTED_TYPES, UNLISTED_MOUNTS, VIRTUAL_INTERFACES, FACES, SECOND_FACES):
        assert re.compile(pattern)
        assert not set(pattern) & set("\\\"`'")
        assert "(?" not in pattern
    assert "/" not in UNLISTED_TYPES + VIRTUAL_INTERFACES
