"""The agent's API of a simulated cluster: the same answers as a real agent, from a world."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import zlib
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import orjson
from aiohttp import web

from tests.fleet.faults import Faults
from tests.fleet.hostile import HOSTILE, rename
from tests.fleet.world import World

VERSION = "0.1.0+simulated"
KINDS = ("node", "filesystem", "pod")
MAX_ROWS = 20_000
BLIND = "/api/v1/nodes: HTTP 503: the API server is away"
NODE_FIELDS = [
    *("cpu_mc", "cpu_cap_mc", "mem_ws", "mem_cap", "fs_used", "fs_cap", "inodes_total"),
    *("inodes_free", "net_rx_bps", "net_tx_bps", "load1_m", "uptime_s", "pods", "ready"),
]
POD_FIELDS = ["cpu_mc", "mem_ws", "mem_rss", "fs_used", "net_rx_bps", "net_tx_bps", "restarts"]
FS_FIELDS = ["used", "cap", "inodes_total", "inodes_free"]


class _Table:
    """One kind's rows, in the columnar form of the agent's API."""

    def __init__(self, fields: list[str]) -> None:
        self.series: list[dict[str, Any]] = []
        self.index: dict[tuple[str, str], int] = {}
        self.t: list[int] = []
        self.i: list[int] = []
        self.fields: dict[str, dict[str, list[int | None]]] = {
            name: {"n": [], "s": [], "l": [], "h": []} for name in fields
        }

    def add(
        self, ts: int, ns: str, name: str, node: str, attrs: dict[str, str], cells: dict[str, Any]
    ) -> None:
        """Append one series-minute."""
        at = self.index.get((ns, name))
        if at is None:
            at = self.index[ns, name] = len(self.series)
            self.series.append({"ns": ns, "name": name, "node": node, "attrs": attrs})
        self.t.append(ts)
        self.i.append(at)
        for field, columns in self.fields.items():
            cell = cells.get(field) or (None, None, None, None)
            columns["n"].append(cell[0])
            columns["s"].append(cell[1])
            columns["l"].append(cell[2])
            columns["h"].append(cell[3])

    def as_json(self) -> dict[str, Any]:
        """Return the kind's part of an answer."""
        return {"series": self.series, "t": self.t, "i": self.i, "fields": self.fields}


class SimulatedAgent:
    """Answers ``/v1/range`` and ``/v1/info`` of one invented cluster."""

    def __init__(
        self,
        world: World,
        *,
        born: int,
        clock: Callable[[], float],
        history_minutes: int = 7 * 1440,
    ) -> None:
        """Make an agent whose data begins at ``born`` (Unix seconds).

        Args:
            world: the cluster.
            born: start of its oldest minute.
            clock: the true time; the cluster's own clock adds the fault's skew.
            history_minutes: how far back it remembers, as the real spool.
        """
        self.world = world
        self.faults = Faults()
        self._born = born - born % 60
        self._clock = clock
        self._history = history_minutes

    def now(self) -> float:
        """Return the cluster's own clock."""
        return self._clock() + self.faults.clock_skew_seconds

    def about(self) -> dict[str, str]:
        """Return who the agent says that it is."""
        return {
            "version": HOSTILE[0][:40] if self.faults.hostile_names else VERSION,
            "instance": f"{self.world.index:016x}",
            "kind": "kubernetes",
            "hostname": f"sim-{self.world.index}",
        }

    def range(self, start: int, end: int, kinds: Sequence[str] = KINDS) -> dict[str, Any]:
        """Return the answer of ``/v1/range``; see ``docs/agent.md``."""
        now = self.now()
        newest_end = int(now // 60) * 60
        oldest = max(self._born, newest_end - self._history * 60)
        per_minute = 2 * len(self.world.nodes) + len(self.world.pods)
        covered = min(end, newest_end, start + max(1, MAX_ROWS // per_minute) * 60)
        node, filesystem, pod = _Table(NODE_FIELDS), _Table(FS_FIELDS), _Table(POD_FIELDS)
        for ts in range(max(start, oldest), covered, 60):
            if ts // 60 not in self.faults.silent_minutes | self.faults.blind_minutes:
                self._fill(ts, node, filesystem, pod if "pod" in kinds else None)
        tables = dict(zip(KINDS, (node, filesystem, pod), strict=True))
        if self.faults.hostile_names:
            rename(node.series, filesystem.series, pod.series)
        return {
            "agent": self.about(),
            "now": now,
            "oldest": oldest,
            "newest_end": newest_end,
            "start": start,
            "end": max(start, covered),
            "collector": self._collector(max(start, oldest), covered),
            "kinds": {kind: tables[kind].as_json() for kind in KINDS if kind in kinds},
        }

    def _collector(self, start: int, end: int) -> dict[str, Any]:
        """Return the state of the collector, and the minutes of the answer in which it failed."""
        blind = self.faults.blind_minutes
        ok = int(self.now() // 60) not in blind
        return {
            "name": "simulated", "ok": ok, "error": "" if ok else BLIND, "problems": {},
            "last_at": self.now() if ok else None,
            "failed": [[ts, ts + 60, BLIND] for ts in range(start, end, 60) if ts // 60 in blind],
            "clock_steps": [],
        }  # fmt: skip

    def _fill(self, ts: int, node: _Table, filesystem: _Table, pod: _Table | None) -> None:
        minute = ts // 60
        gone = self.faults.nodes_gone
        for machine, cells in self.world.node_rows(minute):
            attrs = {"roles": "worker", "os": "simulated"}
            if machine.name in gone:
                node.add(ts, "", machine.name, "", attrs, {"ready": (4, 0, 0, 0)})
                continue
            node.add(ts, "", machine.name, "", attrs, cells)
            filesystem.add(
                ts, machine.name, "/", machine.name, {"fstype": "ext4"},
                {
                    "used": cells["fs_used"],
                    "cap": cells["fs_cap"],
                    "inodes_total": cells["inodes_total"],
                    "inodes_free": cells["inodes_free"],
                },
            )  # fmt: skip
        for slot, name, cells in self.world.pod_rows(minute) if pod is not None else ():
            home = self.world.nodes[slot.node].name
            if pod is not None and home not in gone:
                attrs = {
                    "status": "Running",
                    "ready": "1/1",
                    "phase": "Running",
                    "owner": f"Deployment/{slot.workload}",
                }
                pod.add(ts, slot.ns, name, home, attrs, cells)

    def make_app(self) -> web.Application:
        """Return the HTTP application that the tunnel forwards to."""
        app = web.Application()
        app.router.add_get("/v1/range", self._serve_range)
        app.router.add_get("/v1/info", self._serve_info)
        return app

    async def _serve_info(self, _: web.Request) -> web.Response:
        now = self.now()
        body = {
            "agent": self.about(), "now": now, "oldest": self._born,
            "newest_end": int(now // 60) * 60, "spool_bytes": 0, "sample_seconds": 15,
            "collectors": {"simulated": {"ok": True, "error": None, "last_at": now}},
            "services": ["agent"],
        }  # fmt: skip
        return web.json_response(body)

    async def _serve_range(self, request: web.Request) -> web.StreamResponse:
        if self.faults.slow_seconds:
            await asyncio.sleep(self.faults.slow_seconds)
        start, end = int(request.query["start"]), int(request.query["end"])
        if self.faults.garbage:
            return await self._serve_garbage(request, start, end)
        kinds = request.query.get("kinds", ",".join(KINDS)).split(",")
        body = orjson.dumps(self.range(start, end, kinds))
        return web.Response(
            body=gzip.compress(body, 1),
            headers={"Content-Type": "application/json", "Content-Encoding": "gzip"},
        )

    async def _serve_garbage(
        self, request: web.Request, start: int, end: int
    ) -> web.StreamResponse:
        kind = self.faults.garbage
        if kind == "html":
            return web.Response(
                text="<html><script>alert(1)</script></html>", content_type="text/html"
            )
        if kind in ("endless", "flood"):
            return await _pour(request, quickly=kind == "flood")
        headers = {"Content-Encoding": "gzip"} if kind == "bomb" else {}
        return web.Response(
            body=_garbage(kind, self.range(start, end)),
            content_type="application/json",
            headers=headers,
        )


def _garbage(kind: str, answer: dict[str, Any]) -> bytes:
    """Return what stands in for an answer; ``answer`` is the good one."""
    if kind == "nan":
        return b'{"now": NaN}'
    if kind == "bomb":
        return _bomb()
    if kind == "truncated":
        whole = orjson.dumps(answer)
        return whole[: len(whole) // 2]
    if kind == "oversized":
        return orjson.dumps(answer) + b" " * 50_000_000
    for table in answer["kinds"].values():
        if kind == "future":
            table["t"] = [t + 86_400 * 365 for t in table["t"]]
        else:  # "long_name"
            for series in table["series"][:1]:
                series["name"] = "n" * 10_000
    return orjson.dumps(answer)


async def _pour(request: web.Request, *, quickly: bool) -> web.StreamResponse:
    """Send blanks until the client closes: as fast as possible, or drop by drop."""
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    with contextlib.suppress(ConnectionError):
        while True:
            await response.write(b" " * (65_536 if quickly else 1024))
            await asyncio.sleep(0 if quickly else 0.05)
    return response


@cache
def _bomb() -> bytes:
    """Return 300 MB of blanks, compressed a thousandfold; made once, as it takes seconds."""
    squeeze = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)
    blanks = b" " * 1_000_000
    return b"".join(squeeze.compress(blanks) for _ in range(300)) + squeeze.flush()
