"""Telegraf's disks and interfaces that are a node's, by the rule of the agent. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from agent.own_parts import filesystem_identity, listed_filesystem, own_interfaces, possible
from metrics.sources.influxdb2.responses import Columns
from metrics.sources.row_builder import Tags
from metrics.sources.validation import clean_text

_MAX_ATTR = 256
_READ_ONLY = "ro"


@dataclass(frozen=True, slots=True)
class Mount:
    """What is known of a filesystem beside its numbers: device and type as Telegraf names them."""

    device: str
    fstype: str
    read_only: bool

    def attrs(self) -> dict[str, str]:
        """Return its attributes for display and for judging it."""
        attrs = {
            name: clean_text(value[:_MAX_ATTR], name, _MAX_ATTR)
            for name, value in (("device", self.device), ("fstype", self.fstype))
        }
        return {**attrs, "ro": "1"} if self.read_only else attrs


def chosen_disks(
    found: Columns, left_out: Collection[str]
) -> tuple[Columns, dict[Tags, Mount], int]:
    """Return the points of each listed filesystem, by host and path, each device once.

    Args:
        found: the stream ``disk``: points with host, path, device, type and mode.
        left_out: hosts that are not nodes.

    Returns:
        The points, in the catalogue's fields; what else is known of each filesystem, by host and
        path; and how many points were refused, because they have more used or free than there is.
    """
    newest: dict[Tags, tuple[int, Tags]] = {}
    for time, tags in zip(found.times, found.tags, strict=True):
        if tags[0] not in left_out and time >= newest.get(tags[:2], (-1, ()))[0]:
            newest[tags[:2]] = (time, tags)
    mounts = _each_once(tags for _, tags in newest.values())
    kept = _only(found, lambda tags: tags[:2] in mounts)
    kept.tags = [tags[:2] for tags in kept.tags]
    columns = _in_catalogue(kept)
    refused = sum(
        used is not None and kept_used is None
        for used, kept_used in zip(kept.fields["used"], columns.fields["used"], strict=True)
    )
    return columns, mounts, refused


def own_traffic(found: Columns) -> Columns:
    """Return the points of each host's own interfaces; tags are host and interface."""
    by_host: dict[str | None, set[str]] = {}
    for host, interface in set(found.tags):
        by_host.setdefault(host, set()).add(interface or "")
    own = {host: own_interfaces(names) for host, names in by_host.items()}
    return _only(found, lambda tags: (tags[1] or "") in own[tags[0]])


def _each_once(found: Iterable[Tags]) -> dict[Tags, Mount]:
    """Return the filesystems that are listed; one mounted several times by its shortest path."""
    chosen: dict[tuple[str, str], Tags] = {}
    for tags in sorted(found, key=lambda tags: (len(tags[1] or ""), tags[1] or "")):
        host, path, device, fstype = ((text or "") for text in tags[:4])
        if path and listed_filesystem(path, device, fstype):
            chosen.setdefault((host, filesystem_identity(path, device, fstype)), tags)
    return {
        tags[:2]: Mount(tags[2] or "", tags[3] or "", read_only=tags[4] == _READ_ONLY)
        for tags in chosen.values()
    }


def _in_catalogue(found: Columns) -> Columns:
    """Return the catalogue's fields; used and capacity are None where they cannot be."""
    used, cap = [], []
    for taken, free, total in zip(
        *(found.fields[name] for name in ("used", "free", "total")), strict=True
    ):
        # As df shows it: what is reserved for root is neither used nor capacity.
        whole = total if free is None or taken is None else taken + free
        fits = possible(taken, total) and possible(free, total)
        used.append(taken if fits else None)
        cap.append(whole if fits else None)
    inodes = {name: found.fields[name] for name in ("inodes_total", "inodes_free")}
    return Columns(found.times, found.tags, {"used": used, "cap": cap, **inodes})


def _only(found: Columns, wanted: Callable[[Tags], bool]) -> Columns:
    places = [at for at, tags in enumerate(found.tags) if wanted(tags)]
    return Columns(
        [found.times[at] for at in places],
        [found.tags[at] for at in places],
        {name: [values[at] for at in places] for name, values in found.fields.items()},
    )
