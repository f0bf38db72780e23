"""Our hub and agent beside stock ``sshd`` and ``ssh -R``: the same target, the same load.

Requests go to the hub's gateway by CONNECT, to stock OpenSSH's forwarded port directly. Rounds are
interleaved.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

from tests.bench.hub import our_tunnel, running_hub
from tests.bench.load import Opener, bulk, kept_alive, new_each, port_opener
from tests.bench.openssh import free_port, stock_tunnel, wait_for_port
from tests.bench.report import Report

ROUNDS = 5
_Work = Callable[[Opener], Coroutine[Any, Any, float]]
_MEASURES: dict[str, tuple[str, _Work]] = {
    "1 stream": ("MB/s", lambda o: bulk(o, streams=1, megabytes=48)),
    "4 streams": ("MB/s", lambda o: bulk(o, streams=4, megabytes=12)),
    "kept alive, 1 kB, 1 client": (
        "req/s", lambda o: kept_alive(o, clients=1, requests=300, size=1000),
    ),
    "kept alive, 1 kB, 8 clients": (
        "req/s", lambda o: kept_alive(o, clients=8, requests=1600, size=1000),
    ),
    "kept alive, 100 kB, 8 clients": (
        "req/s", lambda o: kept_alive(o, clients=8, requests=400, size=100_000),
    ),
    "new connection each, 1 kB, 8 clients": (
        "req/s", lambda o: new_each(o, clients=8, requests=400, size=1000),
    ),
}  # fmt: skip


def run(report: Report) -> None:
    """Measure every load on both tunnels."""
    with (
        tempfile.TemporaryDirectory() as directory,
        _target() as target,
        stock_tunnel(target, Path(directory) / "stock") as stock_port,
        running_hub(),
        our_tunnel(target, Path(directory) / "ours") as agent,
        our_tunnel(target, Path(directory) / "mixed", stock_client=True) as mixed,
    ):
        variants = {"": agent, ", ssh as the agent": mixed}
        stock = port_opener(stock_port)
        for name, (unit, work) in _MEASURES.items():
            ours: dict[str, list[float]] = {variant: [] for variant in variants}
            theirs = []
            for _ in range(ROUNDS):
                for variant, opener in variants.items():
                    ours[variant].append(asyncio.run(work(opener)))
                theirs.append(asyncio.run(work(stock)))
            for variant, figures in ours.items():
                report.compare("tunnel", name + variant, unit, figures, "ssh -R", theirs)


@contextlib.contextmanager
def _target() -> Iterator[int]:
    """Run the HTTP target in a process of its own; yield its port."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.target", str(port)], env={**os.environ}
    )
    try:
        wait_for_port(port)
        yield port
    finally:
        process.terminate()
        process.wait()
