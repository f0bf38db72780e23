"""What a plain host reports as pods: names and usage, limited to the largest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from agent.samples import Sample, make_sample

HOST_NAMESPACE = "host"
MAX_UNITS = 500
OTHER = "other"
_STAY = 1.5


@dataclass(slots=True)
class Unit:
    """One service or process group; None = not measured.

    Attributes:
        cpu_mc: millicores over the last interval.
        mem_ws: bytes that would roughly be freed if it stopped.
        mem_rss: bytes resident.
        processes: number of its processes; None if not counted.
    """

    name: str
    cpu_mc: float | None = None
    mem_ws: int | None = None
    mem_rss: int | None = None
    processes: int | None = None
    attrs: Mapping[str, str] = field(default_factory=dict)


def keep_largest(
    units: Sequence[Unit],
    *,
    cpu_cap_mc: float,
    mem_cap: int,
    stay: frozenset[str] = frozenset(),
    limit: int = MAX_UNITS,
) -> list[Unit]:
    """Return at most ``limit`` units, the smallest ones merged into one called ``other``.

    Size is the share of the machine's CPU plus the share of its memory. Units in ``stay``, those
    reported last time, count for half as much again, so that a series does not flicker.
    """
    if len(units) <= limit:
        return sorted(units, key=lambda unit: unit.name)

    def size(unit: Unit) -> tuple[float, str]:
        share = (unit.cpu_mc or 0) / max(cpu_cap_mc, 1) + (unit.mem_ws or 0) / max(mem_cap, 1)
        return (-share * (_STAY if unit.name in stay else 1), unit.name)

    ranked = sorted(units, key=size)
    largest = [unit for unit in ranked[: limit - 1] if unit.name != OTHER]
    rest = [unit for unit in ranked if unit.name == OTHER] + [
        unit for unit in ranked[limit - 1 :] if unit.name != OTHER
    ]
    merged = Unit(
        OTHER,
        cpu_mc=_total([unit.cpu_mc for unit in rest]),
        mem_ws=_whole(_total([unit.mem_ws for unit in rest])),
        mem_rss=_whole(_total([unit.mem_rss for unit in rest])),
        processes=_whole(_total([unit.processes for unit in rest])),
        attrs={"merged": str(len(rest))},
    )
    return [*sorted(largest, key=lambda unit: unit.name), merged]


def unit_sample(unit: Unit, node: str) -> Sample:
    """Return the pod sample of a unit."""
    attrs = dict(unit.attrs)
    if unit.processes is not None:
        attrs["processes"] = str(unit.processes)
    return make_sample(
        "pod",
        unit.name.replace("/", "-"),  # a name must fit in one part of a URL's path
        {"cpu_mc": unit.cpu_mc, "mem_ws": unit.mem_ws, "mem_rss": unit.mem_rss},
        ns=HOST_NAMESPACE,
        node=node,
        attrs=attrs,
    )


def _total(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)
