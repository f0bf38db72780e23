"""A simulated fleet in one process: every cluster with its own key and its own real tunnel.

Each cluster runs the agent's own tunnel code towards the hub and answers the agent's API on a
loopback port of its own. Registering the clusters in the centre is :mod:`tests.fleet.register`.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import asyncssh
from aiohttp import web

from agent.state import Enrolment
from agent.tunnel.client import Tunnel
from agent.tunnel.dial import TunnelOptions
from agent.tunnel.targets import AllowList, TcpTarget
from tests.fleet.answers import SimulatedAgent

_WATCH_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Identity:
    """What a simulated cluster needs to sign in."""

    cluster_id: str
    name: str
    key: asyncssh.SSHKey


@dataclass(frozen=True, slots=True)
class Hub:
    """Where the tunnels go."""

    addresses: tuple[str, ...]
    host_keys: tuple[str, ...]
    ws_urls: tuple[str, ...] = ()


class SimulatedCluster:
    """One cluster: its API on loopback, its tunnel, and the knobs of what goes wrong."""

    def __init__(self, identity: Identity, agent: SimulatedAgent, hub: Hub) -> None:
        self.identity = identity
        self.agent = agent
        self.faults = agent.faults
        self._hub = hub
        self._runner: web.AppRunner | None = None
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def port(self) -> int:
        """Return the loopback port of the API, once started."""
        assert self._runner is not None, "not started"
        return int(self._runner.addresses[0][1])

    async def start(self, *, spread_seconds: float = 0.0) -> None:
        """Serve the API and begin to dial, within ``spread_seconds``."""
        self._runner = web.AppRunner(self.agent.make_app(), access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        services = AllowList().with_agent(TcpTarget("127.0.0.1", self.port))
        self._tasks = [asyncio.create_task(self._keep_tunnel(services, spread_seconds))]

    async def stop(self) -> None:
        """End the tunnel and the API."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._runner is not None:
            await self._runner.cleanup()

    async def _keep_tunnel(self, services: AllowList, spread_seconds: float) -> None:
        """Run the agent's tunnel, and take it away while the fault says so."""
        while True:
            if self.faults.tunnel_down:
                await asyncio.sleep(_WATCH_SECONDS)
                continue
            dialling = asyncio.create_task(self._tunnel(services, spread_seconds).run())
            try:
                await self._until_dropped(dialling)
            finally:
                dialling.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await dialling

    async def _until_dropped(self, dialling: asyncio.Task[None]) -> None:
        drop_at = self._next_drop()
        while not dialling.done() and not self.faults.tunnel_down:
            await asyncio.sleep(_WATCH_SECONDS)
            if time.monotonic() >= drop_at:
                return

    def _next_drop(self) -> float:
        every = self.faults.drop_every_seconds
        return time.monotonic() + random.uniform(0, 2 * every) if every else float("inf")

    def _tunnel(self, services: AllowList, spread_seconds: float) -> Tunnel:
        enrolment = Enrolment(
            cluster_id=self.identity.cluster_id,
            cluster_name=self.identity.name,
            addresses=self._hub.addresses,
            ws_urls=self._hub.ws_urls,
            host_keys=self._hub.host_keys,
            keepalive_seconds=15,
            url="",
            token_digest="",
        )
        options = TunnelOptions(
            first_connect_seconds=spread_seconds,
            exit_after_seconds=0,
            instance=self.agent.about()["instance"],
        )
        return Tunnel(enrolment, self.identity.key, services, options)


class Fleet:
    """All simulated clusters of a run."""

    def __init__(self, clusters: Sequence[SimulatedCluster]) -> None:
        self.clusters = list(clusters)

    @classmethod
    def make(
        cls,
        identities: Sequence[Identity],
        hub: Hub,
        agent_of: Callable[[int], SimulatedAgent],
    ) -> Fleet:
        """Return a fleet whose n-th cluster answers as ``agent_of(n)``."""
        return cls(
            [
                SimulatedCluster(identity, agent_of(index), hub)
                for index, identity in enumerate(identities)
            ]
        )

    async def __aenter__(self) -> Fleet:
        # A hub caps how many handshakes wait at once; agents of a real fleet spread themselves.
        spread = len(self.clusters) / 50
        for cluster in self.clusters:
            await cluster.start(spread_seconds=spread)
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*(cluster.stop() for cluster in self.clusters))
