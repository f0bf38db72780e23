"""A real InfluxDB 2.x that is given by the environment; each test makes and drops its buckets."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit

import pytest

from tests.servers.client import DirectClient

_URL, _ORG, _TOKEN = (f"OPSCENTER_TEST_INFLUXDB_{name}" for name in ("URL", "ORG", "TOKEN"))


@dataclass(frozen=True)
class Influx2Server:
    """One server, and its administrator's way in."""

    port: int
    org: str
    token: str

    def write(self, bucket: str, lines: Iterable[str]) -> None:
        """Write points, times in seconds."""
        query = urlencode({"org": self.org, "bucket": bucket, "precision": "s"})
        self._call("POST", f"/api/v2/write?{query}", "\n".join(lines))

    @contextlib.contextmanager
    def bucket(self, *, seconds: int = 0) -> Iterator[str]:
        """Make a bucket that keeps points so long; 0 is for ever."""
        name = f"opscenter-source-{uuid.uuid4()}"
        orgs = self._call("GET", "/api/v2/orgs?" + urlencode({"org": self.org}))["orgs"]
        rules = [{"type": "expire", "everySeconds": seconds}] if seconds else []
        made = self._call(
            "POST",
            "/api/v2/buckets",
            json.dumps({"orgID": orgs[0]["id"], "name": name, "retentionRules": rules}),
        )
        try:
            yield name
        finally:
            self._call("DELETE", f"/api/v2/buckets/{made['id']}")

    def client(self, token: str = "", **options) -> DirectClient:
        """Return the centre's client with a token."""
        headers = {"Authorization": f"Token {token or self.token}"}
        return DirectClient(self.port, headers=headers, **options)

    def _call(self, method: str, path: str, body: str | None = None) -> dict:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            headers = {"Authorization": f"Token {self.token}", "Content-Type": "application/json"}
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            said = answer.read()
            assert answer.status in (200, 201, 204), (answer.status, said)
            return json.loads(said) if said else {}


def given_influxdb2() -> Influx2Server:
    """Return the server of the environment; skip the test without one."""
    url = urlsplit(os.environ.get(_URL, ""))
    if not url.port or url.hostname != "127.0.0.1":
        pytest.skip(f"{_URL} names no InfluxDB 2 to test with")
    return Influx2Server(url.port, os.environ.get(_ORG, ""), os.environ.get(_TOKEN, ""))
