"""Run a simulated fleet against the centre of this data directory.

``python -m tests.fleet --clusters 100`` registers the clusters and keeps their tunnels up until it
is stopped. A few of them have troubles, so that there is something to see.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import random
import signal
import socket
import time
from pathlib import Path

from tests.fleet.answers import SimulatedAgent
from tests.fleet.faults import Faults, read_faults
from tests.fleet.simulator import Fleet
from tests.fleet.world import World

logger = logging.getLogger("fleet")


def main() -> None:
    """Parse the arguments, wait for the hub, run until stopped."""
    parser = argparse.ArgumentParser(prog="python -m tests.fleet", description=__doc__)
    parser.add_argument("--clusters", type=int, default=100)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--pods-per-node", type=int, default=30)
    parser.add_argument("--history-minutes", type=int, default=120)
    parser.add_argument("--calm", action="store_true", help="without troubles")
    parser.add_argument(
        "--faults",
        type=Path,
        help='JSON {"cluster index": {"knob": value}}, read again when it changes; see faults.py',
    )
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("asyncssh").setLevel(logging.WARNING)
    logging.getLogger("agent.tunnel.client").setLevel(logging.WARNING)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "opscenter.settings")
    import django

    django.setup()
    from tests.fleet.register import local_hub, register

    hub = local_hub()
    _wait_for(hub.addresses[0])
    identities = register(arguments.clusters, seed=arguments.seed)
    born = int(time.time()) - arguments.history_minutes * 60

    def agent_of(index: int) -> SimulatedAgent:
        world = World.make(
            arguments.seed, index, pods_per_node=arguments.pods_per_node, churn=index % 10 == 0
        )
        return SimulatedAgent(world, born=born, clock=time.time)

    fleet = Fleet.make(identities, hub, agent_of)
    calm = arguments.calm or arguments.faults is not None
    asyncio.run(_run(fleet, calm=calm, faults=arguments.faults))


async def _run(fleet: Fleet, *, calm: bool, faults: Path | None) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with fleet:
        logger.info("%d simulated clusters dial the hub", len(fleet.clusters))
        if not calm:
            for cluster, trouble in zip(fleet.clusters, _TROUBLES, strict=False):
                trouble(cluster.faults)
        following = asyncio.create_task(_follow(fleet, faults)) if faults else None
        await stop.wait()
        if following:
            following.cancel()


async def _follow(fleet: Fleet, path: Path) -> None:
    """Set the faults in a file, and again whenever it is replaced."""
    set_before = None
    while True:
        wanted = read_faults(path)
        if wanted != set_before:
            for index, cluster in enumerate(fleet.clusters):
                cluster.faults.set(wanted.get(index, {}))
            set_before = wanted
        await asyncio.sleep(0.2)


def _nodes_down(faults: Faults) -> None:
    faults.nodes_gone = {"node-1", "node-2", "node-3", "node-4"}


def _one_node_down(faults: Faults) -> None:
    faults.nodes_gone = {"node-2"}


def _flaky(faults: Faults) -> None:
    faults.drop_every_seconds = random.uniform(60, 180)


def _garbage(faults: Faults) -> None:
    faults.garbage = "html"


def _away(faults: Faults) -> None:
    asyncio.get_running_loop().call_later(150, setattr, faults, "tunnel_down", True)


def _skewed(faults: Faults) -> None:
    faults.clock_skew_seconds = 90


def _slow(faults: Faults) -> None:
    faults.slow_seconds = 5


_TROUBLES = (_nodes_down, _one_node_down, _flaky, _garbage, _away, _skewed, _slow)


def _wait_for(address: str, seconds: float = 120) -> None:
    """Return once the hub listens.

    Raises:
        SystemExit: if it does not.
    """
    host, _, port = address.rpartition(":")
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            with socket.create_connection((host, int(port)), 1):
                return
        except OSError:
            time.sleep(0.5)
    msg = f"no hub at {address}: start the centre with the same OPSCENTER_DATA_DIR"
    raise SystemExit(msg)


if __name__ == "__main__":
    main()
