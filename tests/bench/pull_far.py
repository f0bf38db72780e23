"""The far end of the pull benchmark, a process of its own: simulated clusters with real tunnels.

Every cluster answers the agent's API on a loopback port, and from memory when it is asked for the
same range again, so that a measured round costs this end next to nothing. ``/clock?now=`` on the
control port sets the time of all of them. Prints one line of JSON: the control port, and each
cluster's port by its id.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import sys
from dataclasses import dataclass

import orjson
from aiohttp import web

from tests.fleet.answers import SimulatedAgent
from tests.fleet.simulator import Fleet, Hub, Identity
from tests.fleet.world import World

NODES = 10
PODS_PER_NODE = 30
SEED = 7


@dataclass
class Clock:
    """The time of all clusters, Unix seconds."""

    now: float

    def __call__(self) -> float:
        """Return it."""
        return self.now


class RememberingAgent(SimulatedAgent):
    """Makes an answer once for as long as the clock stands still."""

    def __init__(self, world: World, *, born: int, clock: Clock) -> None:
        super().__init__(world, born=born, clock=clock)
        self.answers: dict[tuple[int, int], bytes] = {}

    async def _serve_range(self, request: web.Request) -> web.StreamResponse:
        asked = int(request.query["start"]), int(request.query["end"])
        if asked not in self.answers:
            self.answers[asked] = gzip.compress(orjson.dumps(self.range(*asked)), 6)
        return web.Response(
            body=self.answers[asked],
            headers={"Content-Type": "application/json", "Content-Encoding": "gzip"},
        )


def main() -> None:
    """Register the clusters with the centre of this environment and serve until killed."""
    count, born = int(sys.argv[1]), int(sys.argv[2])
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "opscenter.settings")
    import django

    django.setup()
    from tests.fleet.register import local_hub, register

    asyncio.run(_serve(register(count, seed=SEED), local_hub(), born))


async def _serve(identities: list[Identity], hub: Hub, born: int) -> None:
    clock = Clock(born)
    agents = [
        RememberingAgent(
            World.make(SEED, index, nodes=NODES, pods_per_node=PODS_PER_NODE),
            born=born, clock=clock,
        )
        for index in range(len(identities))
    ]  # fmt: skip

    async def set_clock(request: web.Request) -> web.Response:
        clock.now = float(request.query["now"])
        for agent in agents:
            agent.answers.clear()
        return web.Response()

    control = web.Application()
    control.router.add_get("/clock", set_clock)
    runner = web.AppRunner(control, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with Fleet.make(identities, hub, agents.__getitem__) as fleet:
        ports = {cluster.identity.cluster_id: cluster.port for cluster in fleet.clusters}
        print(json.dumps({"control": runner.addresses[0][1], "ports": ports}), flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    main()
