"""A real InfluxDB 1.x (Debian's 1.6.7), set up as Gravity 5 does: users, and an index in memory."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

from tests.servers.client import DirectClient
from tests.servers.process import PortTakenError, free_port, running

USER, PASSWORD = "root", "Root's pass"
_CONFIG = """
reporting-disabled = true
bind-address = "127.0.0.1:{rpc}"
[meta]
  dir = "{path}/meta"
[data]
  dir = "{path}/data"
  wal-dir = "{path}/wal"
  index-version = "inmem"
[monitor]
  store-enabled = false
[http]
  bind-address = "127.0.0.1:{port}"
  auth-enabled = true
  log-enabled = false
  max-row-limit = {rows}
[continuous_queries]
  enabled = false
[logging]
  level = "warn"
"""


@dataclass(frozen=True)
class InfluxServer:
    """One server, and its administrator's way in."""

    port: int

    def query(self, text: str, database: str = "") -> list[dict]:
        """Run statements; fail on the first error."""
        form = urlencode({"q": text, "epoch": "s", "db": database})
        answer = json.loads(self._post("/query", form))
        errors = [result["error"] for result in answer["results"] if "error" in result]
        assert not errors, errors
        return answer["results"]

    def write(self, database: str, lines: Iterable[str], policy: str = "") -> None:
        """Write points, times in seconds."""
        query = urlencode({"db": database, "rp": policy, "precision": "s"})
        rows = list(lines)
        for at in range(0, len(rows), 20_000):
            self._post(f"/write?{query}", "\n".join(rows[at : at + 20_000]))

    def client(self, user: str = USER, password: str = PASSWORD, **options) -> DirectClient:
        """Return the centre's client with a user's credentials."""
        return DirectClient(self.port, headers=_basic(user, password), **options)

    def _post(self, path: str, body: str) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            form = {"Content-Type": "application/x-www-form-urlencoded"}
            connection.request("POST", path, body.encode(), _basic(USER, PASSWORD) | form)
            answer = connection.getresponse()
            said = answer.read()
            assert answer.status in (200, 204), (answer.status, said)
            return said


@contextlib.contextmanager
def influx_server(path: Path, *, max_row_limit: int = 0) -> Iterator[InfluxServer]:
    """Run a server in an empty directory until the end of the block."""
    for attempt in range(5):
        port, config = free_port(), path / "influxdb.conf"
        config.write_text(_CONFIG.format(path=path, port=port, rpc=free_port(), rows=max_row_limit))
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(
                    running(
                        ["influxd", "-config", str(config)],
                        ready_url=f"http://127.0.0.1:{port}/ping",
                        log=path / f"log-{attempt}",
                    )
                )
            except PortTakenError:
                continue
            server = InfluxServer(port)
            secret = PASSWORD.replace("'", "\\'")
            server.query(f"CREATE USER {USER} WITH PASSWORD '{secret}' WITH ALL PRIVILEGES")
            yield server
            return
    raise RuntimeError("no free port in five attempts")


def _basic(user: str, password: str) -> dict[str, str]:
    pair = base64.b64encode(f"{user}:{password}".encode()).decode()
    return {"Authorization": f"Basic {pair}"}
