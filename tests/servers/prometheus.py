"""A real Prometheus (Debian's ``prometheus``), filled with known samples or scraping for itself."""

from __future__ import annotations

import contextlib
import re
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path

from tests.servers.process import ServerError, serving

Sample = tuple[float, float]
Series = tuple[str, dict[str, str], Sequence[Sample]]
"""Name, labels, and (Unix seconds, value) ascending."""


def exposition(series: Iterable[Series], *, milliseconds: bool = False) -> str:
    """Return series as text: OpenMetrics, or with milliseconds what VictoriaMetrics imports."""
    lines = []
    for name, labels, samples in sorted(series, key=lambda one: one[0]):
        text = ",".join(f'{key}="{_escaped(value)}"' for key, value in labels.items())
        for time, value in samples:
            at = f"{time * 1000:.0f}" if milliseconds else f"{time:.3f}"
            lines.append(f"{name}{{{text}}} {_number(value)} {at}")
    if not milliseconds:
        lines.append("# EOF")
    return "\n".join(lines) + "\n"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return "NaN" if value != value else repr(value)  # noqa: PLR0124 - NaN is the only such


@cache
def version() -> tuple[int, int]:
    """Return the version of the ``prometheus`` that is run here, e.g. (2, 42)."""
    done = subprocess.run(
        ["prometheus", "--version"], capture_output=True, text=True, check=True, timeout=60
    )
    found = re.match(r"prometheus, version (\d+)\.(\d+)", done.stdout + done.stderr)
    if found is None:
        raise ServerError(f"prometheus --version: {done.stdout}{done.stderr}")
    return int(found[1]), int(found[2])


def make_blocks(series: Iterable[Series], data: Path) -> None:
    """Write series as blocks that a Prometheus started on ``data`` has."""
    source = data.with_suffix(".om")
    source.write_text(exposition(series), encoding="utf-8")
    done = subprocess.run(
        ["promtool", "tsdb", "create-blocks-from", "openmetrics", "-q", str(source), str(data)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise ServerError(f"promtool: {done.stdout}{done.stderr}")
    source.unlink()


@contextlib.contextmanager
def prometheus(
    directory: Path, *, series: Iterable[Series] = (), config: str = "", options: Sequence[str] = ()
) -> Iterator[int]:
    """Run a Prometheus with its data in ``directory``; yield its port.

    Args:
        directory: must exist; gets the data, the configuration and a log.
        series: what it has from the start.
        config: YAML, e.g. what to scrape.
        options: further command line options.
    """
    data = directory / "data"
    data.mkdir(exist_ok=True)
    wanted = list(series)
    if wanted:
        make_blocks(wanted, data)
    file = directory / "prometheus.yml"
    file.write_text(config or "global: {}\n", encoding="utf-8")
    with serving(
        lambda port: [
            "prometheus",
            f"--config.file={file}",
            f"--storage.tsdb.path={data}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--storage.tsdb.retention.time=400d",
            "--log.level=warn",
            *options,
        ],
        ready="/-/ready",
        log=directory / "prometheus.log",
    ) as port:
        yield port
