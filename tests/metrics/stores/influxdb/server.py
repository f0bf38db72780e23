"""The InfluxDB 2 that the tests use, named by the environment; without one they are skipped."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import pytest

from metrics.series.catalog import FIELD_NAMES, TIERS
from metrics.stores.influxdb.client import Influx, Server

FOREVER = {kind: dict.fromkeys(TIERS, 0) for kind in FIELD_NAMES}


def server() -> Server:
    """Return the server; skip the test if the environment names none."""
    url = os.environ.get("OPSCENTER_TEST_INFLUXDB_URL", "")
    if not url:
        pytest.skip("OPSCENTER_TEST_INFLUXDB_URL names no InfluxDB 2 to test with")
    org = os.environ.get("OPSCENTER_TEST_INFLUXDB_ORG", "")
    return Server(url, org, os.environ.get("OPSCENTER_TEST_INFLUXDB_TOKEN", ""))


def own_prefix() -> Iterator[str]:
    """Yield a prefix of buckets that nobody else has; drop them afterwards."""
    prefix = f"test{uuid4().hex[:10]}"
    yield prefix
    influx = Influx(server())
    for name, bucket in influx.buckets().items():
        if name.startswith(f"{prefix}_"):
            influx.drop_bucket(bucket)
    influx.close()


def keep_for_ever(cluster: UUID) -> dict[str, dict[str, int]]:
    del cluster
    return FOREVER


class Between(ThreadingHTTPServer):
    """A server on loopback between a store and the real InfluxDB, to cut the way or lie on it.

    ``fault`` is what writes are answered with instead: status and body; None lets them through.
    ``after`` requests that matter are let through before.
    """

    daemon_threads = True

    def __init__(self, to: Server, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Passing)
        self.to = to
        self.fault: tuple[int, bytes] | None = None
        self.after = 0
        self.port = self.server_address[1]
        self.server = Server(f"http://127.0.0.1:{self.port}", to.org, to.token)
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        """Go away, as a server that was stopped: connections are refused."""
        self.shutdown()
        self.server_close()


class _Passing(BaseHTTPRequestHandler):
    def _pass(self) -> None:
        between: Between = self.server  # type: ignore[assignment]
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        status, headers, answer = self._answer(between, body)
        self.send_response(status)
        for name in ("Content-Type", "Content-Encoding"):
            if name in headers:
                self.send_header(name, headers[name])
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def _answer(self, between: Between, body: bytes) -> tuple[int, dict[str, str], bytes]:
        if between.fault is not None and self.path.startswith("/api/v2/write"):
            if not between.after:
                return between.fault[0], {"Content-Type": "application/json"}, between.fault[1]
            between.after -= 1
        parts = urlsplit(between.to.url)
        way = HTTPConnection(parts.hostname, parts.port, timeout=30)
        way.request(self.command, self.path, body, dict(self.headers))
        answer = way.getresponse()
        found = answer.status, dict(answer.headers), answer.read()
        way.close()
        return found

    do_GET = do_POST = do_PATCH = do_DELETE = _pass  # noqa: N815 - http.server's names

    def log_message(self, *args: object) -> None:
        """Keep quiet."""
