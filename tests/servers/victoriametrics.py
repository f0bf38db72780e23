"""A real VictoriaMetrics (Debian's ``victoria-metrics``), filled with known samples."""

from __future__ import annotations

import contextlib
import urllib.request
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.servers.process import serving
from tests.servers.prometheus import Series, exposition


@contextlib.contextmanager
def victoriametrics(directory: Path, *, series: Iterable[Series] = ()) -> Iterator[int]:
    """Run a single-node VictoriaMetrics with its data in ``directory``; yield its port."""
    with serving(
        lambda port: [
            "victoria-metrics",
            f"-storageDataPath={directory / 'data'}",
            f"-httpListenAddr=127.0.0.1:{port}",
            "-retentionPeriod=2y",
            "-memory.allowedBytes=256MB",
            "-loggerLevel=WARN",
        ],
        ready="/health",
        log=directory / "victoriametrics.log",
    ) as port:
        fill(port, series)
        yield port


def fill(port: int, series: Iterable[Series]) -> None:
    """Write series and make them visible to queries."""
    text = exposition(series, milliseconds=True)
    for path, body in (
        ("/api/v1/import/prometheus", text.encode()),
        ("/internal/force_flush", b""),
    ):
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}{path}", data=body or None, method="POST" if body else "GET"
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert 200 <= answer.status < 300
