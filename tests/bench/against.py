"""Measure another commit in turn with this checkout: ``make bench AGAINST=COMMIT``.

The commit is checked out into a temporary directory, with an environment of its own where it pins
other requirements. Both are driven by ``python -m tests.bench AREA --json FILE``, which any commit
with benchmarks understands: this, other, this, other, area by area, so that a machine that becomes
slower in between slows both. An area or a figure that only one of them has is told, not compared.
"""

from __future__ import annotations

import contextlib
import filecmp
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = "requirements/dev.txt"

Figure = tuple[str, str, str]
"""Area, name and unit of a measure."""
Run = dict[Figure, float]


@dataclass(frozen=True, slots=True)
class Checkout:
    """A tree with benchmarks and the Python that runs them."""

    root: Path
    python: Path

    def measure(self, area: str, scale: float) -> Run:
        """Run one area in its own process; return its figures, none where it has no such area."""
        if not (self.root / "tests" / "bench" / f"{area}.py").exists():
            return {}
        with tempfile.TemporaryDirectory(prefix="opscenter-bench-") as directory:
            told = Path(directory) / "bench.json"
            command = [
                str(self.python), "-m", "tests.bench", area,
                "--scale", str(scale), "--json", str(told),
            ]  # fmt: skip
            subprocess.run(command, cwd=self.root, check=True, stdout=subprocess.DEVNULL)
            return figures(json.loads(told.read_text(encoding="utf-8"))["measures"])


@dataclass(frozen=True, slots=True)
class Difference:
    """One figure of both checkouts, medians over the rounds."""

    figure: Figure
    this: float
    other: float

    @property
    def ratio(self) -> float:
        """Return this by the other; not a number where one is 0 and the other is not."""
        if self.this == self.other:
            return 1.0
        return self.this / self.other if self.this and self.other else float("nan")

    @property
    def times_worse(self) -> float:
        """Return how many times worse this is, below 1 where it is better.

        More is better of what counts by the second, less of everything else. Infinite where there
        was none before, as of minutes missing.
        """
        more_is_better = self.figure[2].endswith("/s")
        good, bad = (self.this, self.other) if more_is_better else (self.other, self.this)
        if good == bad:
            return 1.0
        return bad / good if good else float("inf")


def figures(measures: Sequence[dict[str, Any]]) -> Run:
    """Return the figures of a run's JSON; what was not measured is left out."""
    return {
        (one["area"], one["name"], one["unit"]): float(one["value"])
        for one in measures
        if one["value"] is not None
    }


def differences(this: Sequence[Run], other: Sequence[Run]) -> list[Difference]:
    """Return the medians of what both measured in some round, in the order of this checkout."""
    return [
        Difference(figure, _median(this, figure), _median(other, figure))
        for figure in dict.fromkeys(figure for run in this for figure in run)
        if any(figure in run for run in other)
    ]


def only_in_one(this: Sequence[Run], other: Sequence[Run]) -> list[Figure]:
    """Return the figures that cannot be compared."""
    both = [{figure for run in runs for figure in run} for runs in (this, other)]
    return sorted(both[0] ^ both[1])


def table(found: Sequence[Difference], alone: Sequence[Figure]) -> str:
    """Return both values and their ratio of each figure, and the worst of them at the end."""
    lines = [f"{'area':11} {'measure':52} {'unit':10} {'this':>11} {'other':>11} this/other"]
    lines += [_line(one) for one in found]
    lines += [f"only in one: {' '.join(figure)}" for figure in alone]
    if found:
        worst = max(found, key=lambda one: one.times_worse)
        lines += ["", f"the worst, {worst.times_worse:.2f} times worse than the other:"]
        lines.append(_line(worst))
    return "\n".join(lines)


def _line(one: Difference) -> str:
    area, name, unit = one.figure
    return f"{area:11} {name:52} {unit:10} {one.this:11.4g} {one.other:11.4g} {one.ratio:10.2f}"


def _median(runs: Sequence[Run], figure: Figure) -> float:
    return statistics.median(run[figure] for run in runs if figure in run)


@contextlib.contextmanager
def checked_out(commit: str) -> Iterator[Checkout]:
    """Check a commit out into a temporary directory, removed at the end.

    It runs by the Python of this process where it pins the same requirements, else by one of a new
    environment.
    """
    with tempfile.TemporaryDirectory(prefix="opscenter-against-") as directory:
        root = Path(directory) / "tree"
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--quiet", "--detach", str(root), commit], check=True)
        try:
            same = filecmp.cmp(ROOT / REQUIREMENTS, root / REQUIREMENTS, shallow=False)
            python = Path(sys.executable) if same else _environment(Path(directory) / "venv", root)
            yield Checkout(root, python)
        finally:
            subprocess.run([*git, "remove", "--force", str(root)], check=True)


def _environment(venv: Path, root: Path) -> Path:
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    python = venv / "bin" / "python"
    quiet = ["--quiet", "--disable-pip-version-check", "--no-input"]
    install = [str(python), "-m", "pip", "install", *quiet, "-r", str(root / REQUIREMENTS)]
    subprocess.run(install, check=True)
    return python


def run_against(commit: str, areas: Sequence[str], scale: float, rounds: int) -> None:
    """Measure the areas of this checkout and of a commit in turn; print how they compare.

    Args:
        commit: anything that git takes for one.
        areas: parts of the system, as ``python -m tests.bench`` names them.
        scale: of the fleets, for both.
        rounds: how often each is measured; their medians are compared.
    """
    this: list[Run] = []
    other: list[Run] = []
    with checked_out(commit) as theirs:
        ours = Checkout(ROOT, Path(sys.executable))
        for area in areas:
            for number in range(1, rounds + 1):
                for name, checkout, runs in (("this", ours, this), ("other", theirs, other)):
                    print(f"{area}, round {number} of {rounds}: {name}", flush=True)
                    runs.append(checkout.measure(area, scale))
    print(f"\n{table(differences(this, other), only_in_one(this, other))}")
