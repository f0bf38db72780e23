"""A real etcd of one member (Debian's ``etcd-server``)."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from tests.servers.process import free_port, serving


@contextlib.contextmanager
def etcd(directory: Path) -> Iterator[int]:
    """Run an etcd with its data in ``directory``; yield the port of clients and metrics."""
    peers = f"http://127.0.0.1:{free_port()}"

    def command(port: int) -> list[str]:
        clients = f"http://127.0.0.1:{port}"
        return [
            "etcd", "--name=one", f"--data-dir={directory / 'data'}", "--log-level=error",
            f"--listen-client-urls={clients}", f"--advertise-client-urls={clients}",
            f"--listen-peer-urls={peers}", f"--initial-advertise-peer-urls={peers}",
            f"--initial-cluster=one={peers}",
        ]  # fmt: skip

    own = {key: value for key, value in os.environ.items() if not key.startswith("ETCD_")}
    with serving(command, ready="/health", log=directory / "etcd.log", environment=own) as port:
        yield port


def put(port: int, key: str, value: str) -> None:
    """Write one key, which etcd syncs to disk before it answers."""
    body = json.dumps(
        {
            "key": base64.b64encode(key.encode()).decode(),
            "value": base64.b64encode(value.encode()).decode(),
        }
    )
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v3/kv/put", data=body.encode())
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 200
