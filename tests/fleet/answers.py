"""The agent's API of a simulated cluster: the same answers as a real agent, from a world."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Callable
from typing import Any

import orjson
from aiohttp import web

from tests.fleet.faults import Faults
from tests.fleet.world import World

VERSION = "0.1.0+simulated"
MAX_ROWS = 20_000
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
            "version": VERSION,
            "instance": f"{self.world.index:016x}",
            "kind": "kubernetes",
            "hostname": f"sim-{self.world.index}",
        }

    def range(self, start: int, end: int) -> dict[str, Any]:
        """Return the answer of ``/v1/range``; see ``docs/agent.md``."""
        now = self.now()
        newest_end = int(now // 60) * 60
        oldest = max(self._born, newest_end - self._history * 60)
        per_minute = 2 * len(self.world.nodes) + len(self.world.pods)
        covered = min(end, newest_end, start + max(1, MAX_ROWS // per_minute) * 60)
        node, filesystem, pod = _Table(NODE_FIELDS), _Table(FS_FIELDS), _Table(POD_FIELDS)
        for ts in range(max(start, oldest), covered, 60):
            if ts // 60 not in self.faults.silent_minutes:
                self._fill(ts, node, filesystem, pod)
        return {
            "agent": self.about(),
            "now": now,
            "oldest": oldest,
            "newest_end": newest_end,
            "start": start,
            "end": max(start, covered),
            "kinds": {
                "node": node.as_json(),
                "filesystem": filesystem.as_json(),
                "pod": pod.as_json(),
            },
        }

    def _fill(self, ts: int, node: _Table, filesystem: _Table, pod: _Table) -> None:
        minute = ts // 60
        gone = self.faults.nodes_gone
        for machine, cells in self.world.node_rows(minute):
            attrs = {"role": "node", "os": "simulated"}
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
        for slot, name, cells in self.world.pod_rows(minute):
            home = self.world.nodes[slot.node].name
            if home not in gone:
                attrs = {"workload": f"Deployment/{slot.workload}", "phase": "Running"}
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
        body = orjson.dumps(self.range(start, end))
        return web.Response(
            body=gzip.compress(body, 1),
            headers={"Content-Type": "application/json", "Content-Encoding": "gzip"},
        )

    async def _serve_garbage(
        self, request: web.Request, start: int, end: int
    ) -> web.StreamResponse:
        kind = self.faults.garbage
        whole = orjson.dumps(self.range(start, end))
        if kind == "html":
            return web.Response(
                text="<html><script>alert(1)</script></html>", content_type="text/html"
            )
        if kind == "nan":
            return web.Response(body=b'{"now": NaN}', content_type="application/json")
        if kind == "truncated":
            return web.Response(body=whole[: len(whole) // 2], content_type="application/json")
        if kind == "oversized":
            return web.Response(body=whole + b" " * 50_000_000, content_type="application/json")
        if kind == "future":
            shifted = self.range(start, end)
            for table in shifted["kinds"].values():
                table["t"] = [t + 86_400 * 365 for t in table["t"]]
            return web.json_response(body=orjson.dumps(shifted))
        if kind == "bomb":
            return web.Response(
                body=gzip.compress(b" " * 200_000_000, 9),
                headers={"Content-Type": "application/json", "Content-Encoding": "gzip"},
            )
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        while True:  # "endless"
            await response.write(b" " * 1024)
            await asyncio.sleep(0.05)
