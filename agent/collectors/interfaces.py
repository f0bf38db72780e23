"""A machine's network interfaces: their counters, and what the kernel says of how they are stacked.

``/proc/net/dev`` has the counters. ``/proc/net/bonding`` and ``/proc/net/vlan`` name what is
stacked; ``/sys/class/net``, where it can be read, says it of all kinds, and which are devices.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from agent.own_parts import Link, own_interface


def read_counters(proc: Path) -> dict[str, tuple[int, int]]:
    """Return received and sent bytes by interface; lines that are no interface are skipped."""
    found = {}
    for line in _lines(proc / "net" / "dev"):
        name, colon, rest = line.rpartition(":")
        columns = rest.split()
        if colon and len(columns) >= 9 and columns[0].isdecimal() and columns[8].isdecimal():
            found[name.strip()] = (int(columns[0]), int(columns[8]))
    return found


def read_links(names: Collection[str], proc: Path, sys: Path) -> dict[str, Link]:
    """Return what the kernel says of interfaces, without those that are virtual by their name.

    Args:
        names: the interfaces of ``/proc/net/dev``.
        proc: path of ``/proc``.
        sys: path of ``/sys/class/net``; it need not be there, or not for these interfaces.
    """
    stacked = set(_bonds(proc)) | set(_vlans(proc))
    candidates = [name for name in names if own_interface(name)]
    devices = {name: (sys / name / "device").exists() for name in candidates}
    masters = {name: _target(sys / name / "master") for name in candidates}
    links = {}
    for name in candidates:
        # A device that is the master of another one (Azure's eth0) counts the traffic of both.
        master = masters[name] if devices.get(masters[name]) else ""
        lower = {one for one in _lower(sys / name) if one in masters}
        parts = {one for one in lower if devices[name] and masters[one] == name}
        links[name] = Link(
            stacked=name in stacked or bool(lower - parts),
            part_of=master,
            address=_text(sys / name / "address"),
            hardware=devices[name] if (sys / name).exists() else None,
        )
    return links


def own_counters(
    counters: Mapping[str, tuple[int, int]], own: Collection[str]
) -> Iterator[tuple[str, str, int]]:
    """Yield interface, field and counter of each interface that is the node's own."""
    for name in sorted(own):
        received, sent = counters[name]
        yield name, "net_rx_bps", received
        yield name, "net_tx_bps", sent


def _bonds(proc: Path) -> list[str]:
    """Return the bonds that have ports: their traffic counts at these."""
    return [
        name
        for name in _names(proc / "net" / "bonding")
        if any(line.startswith("Slave Interface:") for line in _lines(proc / "net/bonding" / name))
    ]


def _vlans(proc: Path) -> list[str]:
    """Return the VLANs: the lines ``name | id | interface`` behind two of a header."""
    rows = [line.split("|") for line in _lines(proc / "net" / "vlan" / "config")]
    return [row[0].strip() for row in rows if len(row) == 3 and row[1].strip().isdecimal()]


def _lower(interface: Path) -> list[str]:
    """Return the interfaces that one lies on."""
    return [name.removeprefix("lower_") for name in _names(interface) if name.startswith("lower_")]


def _names(directory: Path) -> list[str]:
    try:
        return [entry.name for entry in directory.iterdir()]
    except OSError:
        return []  # no such driver, or not offered to a container


def _target(link: Path) -> str:
    try:
        return link.readlink().name
    except OSError:
        return ""


def _text(path: Path) -> str:
    return "".join(_lines(path)[:1])


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []  # not offered by this kernel or container
