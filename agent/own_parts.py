"""Which filesystems and interfaces are a node's own: one rule for every collector and source. Pure.

A node's sums hold what is its own, and each byte once:

* a filesystem is *listed* if it holds data, and *own* if that data is on this machine's disks:
  network filesystems, cloud drives (FUSE) and images on loop devices are listed only;
* filesystems in one pool share its free space, which counts once; what they use adds up;
* an interface is own if its traffic enters or leaves the machine through it: not loopback, ends of
  containers, bridges and tunnels, nor what is stacked on another interface (bonds, VLANs), nor the
  second face of one card.

The patterns are for PromQL and Flux too, so they use what Python's and Go's regular expressions
have in common, match a whole name, and hold no backslash; those for Flux no slash either. The
server imports this module, and no other of the agent.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

# Kernel interfaces, memory, images of media and packages, and views of what is mounted elsewhere.
UNLISTED_TYPES = (
    "aufs|autofs|bdev|binder|binfmt_misc|bpf|cd9660|cgroup|cgroup2|configfs|cpuset|cramfs|dax|"
    "debugfs|devfs|"
    "devpts|devtmpfs|dlmfs|ecryptfs|efivarfs|erofs|fdescfs|functionfs|fuse.fuse-overlayfs|"
    "fuse.gvfsd-fuse|fuse.lxcfs|fuse.portal|fuse.snapfuse|fuse.squashfuse|fusectl|hugetlbfs|"
    "iso9660|linprocfs|linsysfs|mqueue|nfsd|none|nsfs|nullfs|ocfs2_dlmfs|overlay|overlayfs|pipefs|"
    "proc|procfs|pstore|ramfs|resctrl|romfs|rootfs|rpc_pipefs|secretmem|securityfs|selinuxfs|shiftfs|"
    "smackfs|sockfs|"
    "squashfs|sysfs|tmpfs|tracefs|udf|unionfs|usbfs|xenfs"
)
"""Pattern of the types of filesystems that are not listed."""

UNLISTED_MOUNTS = (
    "(/rootfs|/hostfs|/host|/host/root)?"
    "(/var/lib/(docker|containers|containerd|kubelet|rancher/[^/]+/agent)/.+|"
    "/run/(containerd|docker|k3s|netns)/.+|(/.+)?/kubelet/(pods|plugins)/.+|"
    "(/.+)?/openshift[.]local[.]volumes/(pods|plugins)/.+|(/.+)?/devicemapper/mnt/.+)"
)
"""Pattern of mount points below container runtimes and the kubelet: layers, and volumes of pods."""

_NETWORK_TYPES = re.compile(
    "9p|acfs|afs|auristorfs|beegfs|ceph|cifs|coda|curlftpfs|cvfs|davfs|drvfs|fakeowner|gfs2?|"
    "glusterfs|gpfs|grpcfuse|lustre|moosefs|ncpfs|nfs|nfs[34]|ocfs2|orangefs|osxfs|panfs|prl_fs|"
    "pvfs2|quobyte|smb3|smbfs|vboxsf|virtiofs|vmhgfs|wekafs"
)
_REMOTE_DEVICES = re.compile("//.+|[^/]+:/.*")  # //host/share, host:/path
_IMAGES = re.compile("(/dev/)?(mapper/)?(loop|ram|zram)[0-9].*")  # of a file, or of memory
_BLOCK_FUSE = "fuseblk"  # NTFS and the like on a disk of this machine
# What Heapster and cAdvisor call memory and layers: they name devices, not types.
_UNLISTED_DEVICES = re.compile(
    f"{UNLISTED_TYPES}|udev|shm|overlay.*|/(run|sys|proc|dev/shm)(/(?!media/).*)?"
)

VIRTUAL_INTERFACES = (
    # Loopback (also WSL's mirror of Windows'), and Telegraf's sums of protocols.
    "lo|lo[0-9]+|loopback[0-9]*|all|"
    # Ends of containers, pods and machines on the host: Docker, Podman, LXC, libvirt, Proxmox,
    # OpenStack, Xen; what a card's host sees of functions that are given away (pf0vf1); network
    # plugins of AWS, Azure, Google and Tencent, Calico, Cilium, Flannel, Weave, Antrea (name-hash),
    # OVN (hash), Kube-OVN (hash_h).
    "veth.*|docker.*|podman.*|cni.*|nerdctl.*|lxc.*|lxd.*|incus.*|vnet[0-9].*|fw(br|pr|ln)[0-9].*|"
    "v[bez]-.*|epair.*|k6t-.*|vif[0-9].*|.*pf[0-9]+(hpf|[vs]f[0-9]+)|q(br|vo|vb|r-|g-).*|"
    "eni[0-9a-f].*|azv.*|azure[0-9].*|gke.*|v-h.*|"
    "cali.*|.*[.]cali|cilium.*|flannel.*|weave.*|datapath|antrea.*|.+-[0-9a-f]{6}|genev.*|ovn.*|"
    "ovs.*|[0-9a-f]{15}|[0-9a-f]+_h|kube-.*|nodelocaldns|"
    # Bridges.
    ".*br[0-9]+|.*br[0-9]+v[0-9]+|br-.*|br_.*|brq.*|virbr.*|bridge.*|.*-br|hassio|nomad|"
    "waydroid[0-9]*|anbox[0-9]*|xapi[0-9]+|qvs[0-9]+|switch[0-9]+|"
    # Tunnels and overlays.
    "vxlan.*|vx-.*|.*[.]calico|tun|tun[0-9_-].*|.*tun[0-9]*|tap.*|utun.*|wg|wg[0-9_-].*|"
    "wg[cs][0-9]+|wgnet.*|wt[0-9].*|tailscale.*|zt.*|nebula.*|nordlynx|proton[0-9].*|pvpn.*|tinc.*|"
    "vpn.*|ovpn.*|ham[0-9].*|hnet[0-9].*|ygg[0-9].*|edge[0-9]+|n2n[0-9].*|kilo[0-9].*|kubespan|"
    "siderolink|submariner.*|liqo.*|netmaker.*|nm-.*|mullvad.*|CloudflareWARP|ipsec.*|xfrm.*|"
    "vti.*|ip_vti.*|ip6_vti.*|sit[0-9].*|gre[0-9_].*|gretap.*|erspan.*|ip6gre.*|ip6tnl.*|tunl.*|"
    "ipip.*|teql.*|l2tp.*|teredo|isatap.*|he-ipv6|6in4-.*|6to4-.*|6rd-.*|clat[0-9d]*|nat64|"
    "gif[0-9].*|stf[0-9].*|"
    # No wire at all.
    "dummy.*|ifb.*|imq[0-9].*|nlmon.*|vcan.*|vmnet.*|vboxnet.*|pflog.*|pfsync.*|enc0|awdl.*|llw.*|"
    "anpi.*|ipv6leak.*|"
    # Stacked on another interface.
    "bond.*|.*bond[0-9]*|team.*|lagg.*|vlan.*|.*vlan[0-9]*|.*[.][0-9]+|ib.*[.][0-9a-f]{4}|"
    "macvtap.*|macvlan.*|macsec.*|ipvlan.*|ipvl.*|vrf.*|.*[_-]vrf|bat[0-9].*|qmimux[0-9]+|"
    "rmnet_data[0-9]+"
)
"""Pattern of interfaces that by their name alone are not a node's own."""

# Azure shows a card twice: eth0, and below it a virtual function that is called enP35596s1.
SECOND_FACES = "enP[0-9].*"
"""Pattern of the names of a card's second face."""
_FIRST_FACES = "eth[0-9]+"
FACES = f"{_FIRST_FACES}|{SECOND_FACES}"
"""Pattern of the two names that one card may have; an address tells whether it is one."""

_unlisted_type = re.compile(UNLISTED_TYPES).fullmatch
_unlisted_mount = re.compile(UNLISTED_MOUNTS).fullmatch
_virtual = re.compile(VIRTUAL_INTERFACES).fullmatch
# A telephone line, or, far more often, one of DSL or a tunnel over a card that counts already.
_dialled = re.compile("ppp.*").fullmatch
_first_face = re.compile(_FIRST_FACES).fullmatch
_second_face = re.compile(SECOND_FACES).fullmatch


@dataclass(frozen=True, slots=True)
class Usage:
    """How full a filesystem is, in bytes and inodes; None = not known."""

    used: int | None = None
    cap: int | None = None
    inodes_total: int | None = None
    inodes_free: int | None = None


@dataclass(frozen=True, slots=True)
class Link:
    """What a source knows of an interface beyond its name; the defaults say nothing.

    Attributes:
        stacked: whether it lies on other interfaces of the machine, where its traffic counts.
        part_of: the interface whose counters include its own; "" for none.
        address: its hardware address.
        hardware: whether it is a device and no construct of the kernel; None if not known.
    """

    stacked: bool = False
    part_of: str = ""
    address: str = ""
    hardware: bool | None = None


_NOTHING_KNOWN = Link()


def listed_filesystem(mount: str, device: str, fstype: str) -> bool:
    """Return whether a mounted filesystem is listed, with its own numbers, as one of the node.

    Args:
        mount: the mount point, also as seen from a container that has the machine's below /host.
        device: what is mounted, with or without a leading ``/dev/``.
        fstype: the type, as the kernel writes it; "" if not known.
    """
    if _unlisted_type(fstype) or _unlisted_mount(mount):
        return False
    return not (fstype == "zfs" and "@" in device)  # a snapshot, whose data is its dataset's


def listed_device(name: str) -> bool:
    """Return whether a filesystem that is known by its device or mount point only is listed."""
    return not _UNLISTED_DEVICES.fullmatch(name) and not _unlisted_mount(name)


def own_filesystem(mount: str, device: str, fstype: str) -> bool:
    """Return whether a filesystem counts in its node's sums; see :func:`listed_filesystem`."""
    if not listed_filesystem(mount, device, fstype):
        return False
    if network_filesystem(device, fstype) or _is_fuse(fstype):
        return False
    return mount == "/" or not _IMAGES.fullmatch(device)


def network_filesystem(device: str, fstype: str) -> bool:
    """Return whether a filesystem is on another machine, by its type or device."""
    return bool(_NETWORK_TYPES.fullmatch(fstype) or _REMOTE_DEVICES.fullmatch(device))


def filesystem_identity(mount: str, device: str, fstype: str) -> str:
    """Return what is equal for two mounts of one filesystem, of which one is listed.

    A device says so, except of FUSE, where programs write their own name there.
    """
    return f"{device} {mount}" if _is_fuse(fstype) or not device else device


def space_of(device: str, fstype: str) -> str:
    """Return the name of the space that a filesystem shares with others: its pool, or itself."""
    if fstype == "apfs":
        return re.sub("(disk[0-9]+)s[0-9].*", r"\1", device)
    # A dataset is called pool/name. Where only devices are known, nothing else looks like that.
    if fstype == "zfs" or (not fstype and not device.startswith("/")):
        return device.partition("/")[0]
    return device


def possible(part: float | None, whole: float | None) -> bool:
    """Return whether a part of a whole, such as used of capacity, can be: 0 or more, up to all."""
    return (part is None or part >= 0) and (whole is None or whole >= (part or 0))


def sum_of(usages: Iterable[tuple[str, str, Usage]]) -> Usage:
    """Return a node's sums over its own filesystems, each space's free part once.

    One whose numbers cannot be is left out, so that it spoils no sum.

    Args:
        usages: device, type and usage of each filesystem, each filesystem once.
    """
    spaces: dict[str, list[Usage]] = {}
    whole: set[str] = set()
    for device, fstype, usage in usages:
        if possible(usage.used, usage.cap):
            space = space_of(device, fstype)
            spaces.setdefault(space, []).append(_with_possible_inodes(usage))
            if fstype == "apfs":  # each volume reports the use of all
                whole.add(space)
    found = [_of_space(parts, whole=space in whole) for space, parts in spaces.items()]
    return Usage(
        used=_added(usage.used for usage in found),
        cap=_added(usage.cap for usage in found),
        inodes_total=_added(usage.inodes_total for usage in found),
        inodes_free=_added(usage.inodes_free for usage in found),
    )


def own_interface(name: str) -> bool:
    """Return whether, by its name alone, an interface may be a node's own."""
    return _virtual(name) is None


def own_interfaces(
    names: Iterable[str], links: Mapping[str, Link] = MappingProxyType({})
) -> frozenset[str]:
    """Return those of a machine's interfaces whose traffic is the node's own.

    Args:
        names: all interfaces of one machine.
        links: what is known of them by name.
    """
    named = {name for name in names if own_interface(name)}
    known = {name: links.get(name, _NOTHING_KNOWN) for name in named}
    own = {name for name, link in known.items() if not link.stacked}
    cards = {name for name in own if known[name].hardware}
    # In a container, its end of a pair is all that it has.
    own = cards or {name for name in own if not _dialled(name)} or own or named
    own = {name for name in own if known[name].part_of not in own}
    return frozenset(name for name in own if not _is_second_face(name, own, known))


def _is_second_face(name: str, own: set[str], known: Mapping[str, Link]) -> bool:
    """Return whether a card is counted as eth0 or the like already, by address or else by name."""
    if not _second_face(name):
        return False
    address = known[name].address
    first = [known[other].address for other in own if _first_face(other)]
    return any(not address or not other or address == other for other in first)


def _is_fuse(fstype: str) -> bool:
    return fstype.startswith("fuse") and fstype != _BLOCK_FUSE


def _with_possible_inodes(usage: Usage) -> Usage:
    if possible(usage.inodes_free, usage.inodes_total):
        return usage
    return Usage(usage.used, usage.cap)


def _of_space(parts: list[Usage], *, whole: bool) -> Usage:
    """Return what several filesystems in one space use and have together."""
    if len(parts) == 1:
        return parts[0]
    used, free = _shared([(p.used, _less(p.cap, p.used)) for p in parts], whole=whole)
    taken, left = _shared(
        [(_less(p.inodes_total, p.inodes_free), p.inodes_free) for p in parts], whole=whole
    )
    return Usage(
        used=used,
        cap=None if used is None or free is None else used + free,
        inodes_total=None if taken is None or left is None else taken + left,
        inodes_free=left,
    )


def _shared(
    parts: list[tuple[int | None, int | None]], *, whole: bool
) -> tuple[int | None, int | None]:
    used = [one for one, _ in parts if one is not None]
    free = [one for _, one in parts if one is not None]
    taken = None if not used else max(used) if whole else sum(used)
    return taken, max(free, default=None)


def _less(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one - other


def _added(values: Iterable[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None
