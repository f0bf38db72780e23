"""CPU time that a machine used between two readings of ``/proc/stat``.

Used is everything but idle and iowait, as ``top`` and node-exporter count it: time of guests is
part of user time already, and time stolen by the hypervisor counts as used.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agent.collectors.base import RATE_MAX_SECONDS

_COLUMNS = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
_BUSY = frozenset({"user", "nice", "system", "irq", "softirq", "steal"})
_ALWAYS_COUNTED = frozenset({"user", "system"})
"""Where both fell, the kernel's counters began anew."""


@dataclass(frozen=True, slots=True)
class CpuReading:
    """One reading of ``/proc/stat``.

    Attributes:
        ticks: clock ticks since boot by column; empty if no line has any.
        online: number of online CPUs.
    """

    ticks: Mapping[str, int]
    online: int


def parse_cpu(lines: Sequence[str]) -> CpuReading | None:
    """Return the machine's CPU time; None if the lines name no CPU.

    Inside a container lxcfs may give two total lines, or one of zeros: the largest one counts, and
    where all are zeros the sum over the CPUs.
    """
    totals: list[list[int]] = []
    cpus: dict[str, list[int]] = {}
    for line in lines:
        name, *texts = line.split() or [""]
        columns = [int(text) for text in texts[: len(_COLUMNS)] if text.isdecimal()]
        if len(columns) < len(_COLUMNS[:4]):
            continue
        if name == "cpu":
            totals.append(columns)
        elif re.fullmatch(r"cpu\d+", name):
            cpus[name] = columns
    total = max(totals, key=sum, default=[])
    if not any(total):
        total = [sum(column) for column in zip(*cpus.values(), strict=False)]
    if not totals or not cpus:
        return None
    ticks = dict(zip(_COLUMNS, total, strict=False)) if any(total) else {}
    return CpuReading(ticks, len(cpus))


class CpuTime:
    """Remembers the last reading."""

    def __init__(self) -> None:
        self._last: tuple[CpuReading, float] | None = None

    def used(self, reading: CpuReading | None, at: float) -> tuple[float, float] | None:
        """Return the ticks used since the last reading, and the seconds between the two.

        A column that fell says nothing, and the others still do: the steal column of some kernels
        falls for weeks. None at the first reading, after more than :data:`RATE_MAX_SECONDS`, if
        the counters began anew or stand still (idle time too), and if nothing is left but columns
        that fell.

        Args:
            reading: None if it could not be read, which forgets the last one.
            at: time of the reading, monotonic seconds.
        """
        last, self._last = self._last, None if reading is None else (reading, at)
        if reading is None or last is None:
            return None
        before, seconds = last[0].ticks, at - last[1]
        if not 0 < seconds <= RATE_MAX_SECONDS:
            return None
        grown = {name: now - before.get(name, now) for name, now in reading.ticks.items()}
        fell = {name for name, change in grown.items() if change < 0}
        used = sum(grown[name] for name in _BUSY & grown.keys() - fell)
        stands_still = not any(grown.values())
        if stands_still or fell >= _ALWAYS_COUNTED or (fell & _BUSY and not used):
            return None
        return used, seconds
