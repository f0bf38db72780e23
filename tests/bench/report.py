"""The report of a benchmark run: ratios within one run, as a table and as JSON.

Absolute numbers of a shared machine mean little. Every measure therefore names its baseline, both
are measured in the same run with their rounds interleaved, and the ratio is the median over the
rounds. Nothing here passes or fails.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Measure:
    """One figure beside its baseline; ``value`` is None where it was not measured: see ``note``."""

    area: str
    name: str
    unit: str
    value: float | None
    baseline: str = ""
    baseline_value: float | None = None
    ratio: float | None = None
    note: str = ""


@dataclass
class Report:
    """All figures of one run."""

    measures: list[Measure] = field(default_factory=list)
    started_at: float = field(default_factory=time.time)
    load_before: float = field(default_factory=lambda: os.getloadavg()[0])
    """Processes that wanted a core in the minute before: how shared the machine was."""

    def add(self, measure: Measure) -> None:
        """Store a figure and print it at once, so that a long run shows progress."""
        self.measures.append(measure)
        print(_line(measure), flush=True)

    def leave_out(self, area: str, name: str, why: str) -> None:
        """Report what was not measured, and why."""
        self.add(Measure(area, name, "", None, note=f"not measured: {why}"))

    def compare(
        self,
        area: str,
        name: str,
        unit: str,
        ours: Sequence[float],
        baseline: str,
        theirs: Sequence[float],
        note: str = "",
    ) -> None:
        """Store the medians of interleaved rounds and the median of their ratios.

        Args:
            area: the part of the system.
            name: what is measured.
            unit: unit of both figures.
            ours: our figure of each round.
            baseline: what it is compared with.
            theirs: the baseline's figure of the same rounds.
            note: what a reader must know to judge it.
        """
        ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
        self.add(
            Measure(
                area,
                name,
                unit,
                statistics.median(ours),
                baseline,
                statistics.median(theirs),
                ratio,
                note,
            )
        )

    def write(self, path: Path) -> None:
        """Write the JSON form, with the machine that it was measured on."""
        body: dict[str, Any] = {
            "started_at": self.started_at,
            "load_before": self.load_before,
            "load_after": os.getloadavg()[0],
            "seconds": time.time() - self.started_at,
            "python": sys.version.split()[0],
            "machine": platform.machine(),
            "cores": os.cpu_count(),
            "measures": [asdict(measure) for measure in self.measures],
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")

    def table(self) -> str:
        """Return all figures as aligned lines."""
        return "\n".join(_line(measure) for measure in self.measures)

    def markdown(self) -> str:
        """Return all figures as a table for the documentation, and how shared the machine was."""
        head = ["| Area | Measure | Figure | Beside | Note |", "| --- | --- | ---: | --- | --- |"]
        body = [
            f"| {m.area} | {m.name} | {_figure(m)} | {_beside(m)} | {m.note} |"
            for m in self.measures
        ]
        day = time.strftime("%Y-%m-%d", time.gmtime(self.started_at))
        about = (
            f"{day}, Python {sys.version.split()[0]}, {os.cpu_count()} cores; processes that wanted"
            f" a core: {self.load_before:.1f} before, {os.getloadavg()[0]:.1f} at the end."
        )
        return "\n".join([about, "", *head, *body, ""])


def _line(m: Measure) -> str:
    value = "-" if m.value is None else _number(m.value)
    text = f"{m.area:8} {m.name:52} {value:>10} {m.unit:10}"
    if m.ratio is not None and m.baseline_value is not None:
        text += f" {m.ratio:7.2f} x {m.baseline} ({_number(m.baseline_value)})"
    return f"{text}  {m.note}".rstrip()


def _figure(m: Measure) -> str:
    return "-" if m.value is None else f"{_number(m.value)} {m.unit}".strip()


def _beside(m: Measure) -> str:
    if m.ratio is None or m.baseline_value is None:
        return ""
    return f"{m.ratio:.2f} x {m.baseline} ({_number(m.baseline_value)})"


def _number(value: float) -> str:
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def seconds_of(work: Callable[[], object]) -> float:
    """Return how long one call takes, wall-clock seconds."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def cpu_seconds_of(work: Callable[[], object]) -> tuple[float, float]:
    """Return (wall, CPU of this process with its threads) seconds of one call."""
    begin, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - begin, time.process_time() - cpu
