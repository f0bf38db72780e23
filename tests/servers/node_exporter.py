"""A real node-exporter (Debian's ``prometheus-node-exporter``) of this machine."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from tests.servers.process import serving


@contextlib.contextmanager
def node_exporter(directory: Path) -> Iterator[int]:
    """Run a node-exporter; yield its port."""
    with serving(
        lambda port: [
            "prometheus-node-exporter",
            f"--web.listen-address=127.0.0.1:{port}",
            "--collector.textfile.directory=",
            "--no-collector.systemd",
            "--log.level=error",
        ],
        ready="/metrics",
        log=directory / "node_exporter.log",
    ) as port:
        yield port
