"""One centre on PostgreSQL, with everything of this package happening to it at the same time.

Real time is what these tests cost, so they share it: while a simulated fleet sends data and then
garbage, three real agents of this machine go through outages, each in a thread of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.centre import ROOT, Centre, free_ports, wait_until
from tests.e2e.agents import Agent
from tests.e2e.centreapi import Api, Pages
from tests.e2e.link import Link
from tests.postgresql import private_postgresql

pytest.register_assert_rewrite("tests.e2e.scene.outages")

SEED, HEALTHY, HISTORY_MINUTES, PODS_PER_NODE = 95, 3, 20, 6
MAX_BYTES, THREADS = 8_000_000, 16
GARBAGE = {
    "html": ("not_json", "answered text/html, not JSON"),
    "nan": ("not_json", "sent what is not JSON"),
    "truncated": ("not_json", "sent what is not JSON"),
    "endless": ("service_down", "no complete answer within 10 s"),
    "flood": ("too_large", f"sent more than the cap of {MAX_BYTES} bytes"),
    "bomb": ("too_large", f"sent more than the cap of {MAX_BYTES} bytes"),
    "oversized": ("too_large", "announced 50"),
    "future": ("bad_value", "outside the requested range or in the future"),
    "long_name": ("bad_name", "10000 characters; at most 253 are accepted"),
    "slow": ("service_down", "no complete answer within 10 s"),
}
"""What a simulated cluster answers with, and the error that must be recorded for it."""


@dataclass
class Scene:
    """The running centre and what surrounds it."""

    centre: Centre
    api: Api
    link: Link
    directory: Path
    hub_key: str
    started_at: float
    fleet_names: list[str] = field(default_factory=list)
    faults_path: Path = Path()
    closing: list[Any] = field(default_factory=list)
    outages: dict[str, Future[None]] = field(default_factory=dict)

    def agent(self, name: str, command: str = "run", **variables: str) -> Agent:
        """Return an agent that is not started yet; it is ended with the scene."""
        agent = Agent(
            self.directory / name, command,
            **{"URL": self.centre.url, "HUB_KEY": self.hub_key, **variables},
        )  # fmt: skip
        self.closing.append(agent)
        return agent

    def set_faults(self, faults: dict[int, dict[str, Any]]) -> None:
        """Set what goes wrong in the fleet from now on, by the cluster's index."""
        fresh = self.faults_path.with_suffix(".new")
        fresh.write_text(json.dumps(faults))
        fresh.replace(self.faults_path)

    def named(self, index: int) -> dict[str, Any]:
        """Return a simulated cluster as the API lists it."""
        return self.api.clusters()[self.fleet_names[index]]

    def wait_for_data(self, cluster_id: str) -> None:
        """Wait until a cluster has sent its first minutes."""
        wait_until(lambda: self.api.cluster(cluster_id)["data_as_of"], "the first data", 120)


@pytest.fixture(scope="package")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    directory = tmp_path_factory.mktemp("scene")
    [link_port] = free_ports(1)
    with private_postgresql() as database:
        centre = Centre(
            directory / "data",
            "--no-local-agent",
            DATABASE_URL=database,
            OPSCENTER_HUB_PUBLIC_ADDRESS=f"127.0.0.1:{link_port}",
            OPSCENTER_PULL_INTERVAL_SECONDS="10",
            OPSCENTER_PULL_DEADLINE_SECONDS="10",
            OPSCENTER_PULL_MAX_BYTES=str(MAX_BYTES),
            OPSCENTER_WORKER_THREADS=str(THREADS),
        )
        public = f"ws://127.0.0.1:{centre.hub_ws_port}/tunnel"
        centre.environment["OPSCENTER_HUB_PUBLIC_WS_URL"] = public
        centre.environment["OPSCENTER_PUBLIC_URL"] = centre.url
        centre.start()
        link = Link()
        try:
            centre.wait_until_ready()
            link.start(centre.hub_port, link_port)
            api = Api(centre)
            cluster = api.post("/clusters/", {"name": "only-for-its-token"})
            given = api.post(f"/clusters/{cluster['id']}/join-token/")
            assert api.ask("DELETE", f"/clusters/{cluster['id']}/")[0] == 204
            made = Scene(centre, api, link, directory, given["hub_key_fingerprint"], time.time())
            yield from _with_peers(made)
        finally:
            centre.close()
            (directory / "centre.log").write_text(centre.output)
            if link.port:
                link.close()


def _with_peers(scene: Scene) -> Iterator[Scene]:
    from tests.e2e.scene.outages import OUTAGES

    scene.faults_path = scene.directory / "faults.json"
    scene.set_faults({HEALTHY: {"hostile_names": True}})
    fleet = subprocess.Popen(
        [
            *(sys.executable, "-m", "tests.fleet", "--faults", str(scene.faults_path)),
            *("--seed", str(SEED), "--clusters", str(HEALTHY + 1 + len(GARBAGE))),
            *("--history-minutes", str(HISTORY_MINUTES)),
            *("--pods-per-node", str(PODS_PER_NODE)),
        ],
        cwd=ROOT,
        env=scene.centre.environment | {"PYTHONPATH": str(ROOT)},
    )
    threads = ThreadPoolExecutor(len(OUTAGES))
    try:
        scene.outages = {name: threads.submit(story, scene) for name, story in OUTAGES.items()}
        wait_until(lambda: len(_simulated(scene)) == HEALTHY + 1 + len(GARBAGE), "the fleet", 60)
        scene.fleet_names = sorted(_simulated(scene), key=lambda name: int(name.split("-")[-1]))
        yield scene
    finally:
        threads.shutdown(wait=True, cancel_futures=True)
        for process in scene.closing:
            process.close()
        fleet.terminate()
        fleet.wait()


def _simulated(scene: Scene) -> list[str]:
    return [name for name, item in scene.api.clusters().items() if item["simulated"]]


@pytest.fixture(scope="package")
def pages(scene: Scene) -> Pages:
    return Pages(scene.centre)
