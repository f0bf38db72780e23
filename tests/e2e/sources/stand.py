"""Three clusters with three kinds of monitoring, each behind its own tunnel to one centre.

``heapster`` has a real InfluxDB 1.6.7 with Gravity's schema and known values, which grow minute
by minute; ``prometheus`` a real Prometheus that scrapes a real node-exporter of this machine;
``agent`` nothing but our agent on this machine. With an InfluxDB 2 to test with, a second centre,
whose numbers go there, has three tunnels of its own to the same three.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.centre import Centre, free_ports, wait_until
from tests.e2e.agents import Agent
from tests.e2e.centreapi import Api, moment
from tests.e2e.link import Link
from tests.servers.heapster import Heapster
from tests.servers.influxdb import PASSWORD, USER, influx_server
from tests.servers.node_exporter import node_exporter
from tests.servers.prometheus import prometheus

HISTORY_MINUTES = 30  # that InfluxDB has from before
CUT_SECONDS = 65  # one minute comes due meanwhile, for every source
SETTLE = {"heapster": 90, "prometheus": 45, "agent": 0}
"""Seconds after its end at which a minute is complete at each source."""

_SCRAPE = """
global: {{scrape_interval: 15s}}
scrape_configs:
- job_name: node
  static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
"""
_QUICK = {
    "OPSCENTER_PULL_INTERVAL_SECONDS": "5",
    "OPSCENTER_PULL_DEADLINE_SECONDS": "10",
}


@dataclass
class Servers:
    """What the clusters run already."""

    influxdb: int
    prometheus: int
    heapster: Heapster
    first: int
    """Start of the oldest minute that is known to InfluxDB."""


@dataclass
class Installation:
    """One centre with its three clusters."""

    centre: Centre
    api: Api
    link: Link
    clusters: dict[str, str] = field(default_factory=dict)
    agents: dict[str, Agent] = field(default_factory=dict)
    cut_at: float = 0.0
    restored_at: float = 0.0

    def cluster(self, name: str) -> dict[str, Any]:
        """Return a cluster in full."""
        return self.api.cluster(self.clusters[name])

    def as_of(self, name: str) -> int:
        """Return the end of a cluster's newest minute; 0 before the first."""
        return int(moment(self.cluster(name)["data_as_of"]))

    def range(self, name: str, query: str) -> dict[str, Any]:
        """Return one field over time, as the charts get it."""
        return dict(self.api.get(f"/clusters/{self.clusters[name]}/range?{query}"))


@contextlib.contextmanager
def running_servers(directory: Path) -> Iterator[Servers]:
    """Run InfluxDB, Prometheus and node-exporter; keep InfluxDB fed."""
    for name in ("influxdb", "exporter", "prometheus"):
        (directory / name).mkdir(parents=True)
    with contextlib.ExitStack() as stack:
        exporter = stack.enter_context(node_exporter(directory / "exporter"))
        config = _SCRAPE.format(port=exporter)
        scraper = stack.enter_context(prometheus(directory / "prometheus", config=config))
        influx = stack.enter_context(influx_server(directory / "influxdb"))
        heapster = Heapster(influx, "k8s")
        heapster.create()
        written = int(time.time()) // 60 * 60
        first = written - HISTORY_MINUTES * 60
        heapster.write(first, written)
        stack.enter_context(_feeding(heapster, written))
        yield Servers(influx.port, scraper, heapster, first)


@contextlib.contextmanager
def _feeding(heapster: Heapster, written: int) -> Iterator[None]:
    """Write each minute once it is over, as Heapster does."""
    stop = threading.Event()

    def feed() -> None:
        end = written
        while not stop.wait(1):
            closed = int(time.time()) // 60 * 60
            if closed > end:
                heapster.write(end, closed)
                end = closed

    thread = threading.Thread(target=feed)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@contextlib.contextmanager
def installation(directory: Path, servers: Servers, **environment: str) -> Iterator[Installation]:
    """Run a centre and three agents behind one link that can be cut; go through a cut.

    Entered once all three have data from before and from after the cut, without a gap.
    """
    [link_port] = free_ports(1)
    centre = Centre(
        directory / "data",
        "--no-local-agent",
        OPSCENTER_HUB_PUBLIC_ADDRESS=f"127.0.0.1:{link_port}",
        **_QUICK,
        **environment,
    )
    centre.environment["OPSCENTER_PUBLIC_URL"] = centre.url
    link, closing = Link(), contextlib.ExitStack()
    with closing:
        closing.callback(centre.close)
        centre.start()
        centre.wait_until_ready()
        link.start(centre.hub_port, link_port)
        closing.callback(link.close)
        made = Installation(centre, Api(centre), link)
        _join(made, servers, directory, closing)
        _go_through_a_cut(made)
        yield made


def _join(
    made: Installation, servers: Servers, directory: Path, closing: contextlib.ExitStack
) -> None:
    """Join three agents, and say where the numbers of two of them come from."""
    services = {
        "heapster": f"influxdb=127.0.0.1:{servers.influxdb}",
        "prometheus": f"prometheus=127.0.0.1:{servers.prometheus}",
        "agent": "",
    }
    for name, offered in services.items():
        cluster = made.api.post("/clusters/", {"name": name})
        made.clusters[name] = cluster["id"]
        given = made.api.post(f"/clusters/{cluster['id']}/join-token/")
        agent = Agent(
            directory / name, "run", URL=made.centre.url, TOKEN=given["token"],
            HUB_KEY=given["hub_key_fingerprint"], TRANSPORT="tcp",
            **({"SERVICES": offered} if offered else {}),
        )  # fmt: skip
        made.agents[name] = agent
        closing.callback(agent.close)
        agent.run()
    for name in services:
        wait_until(lambda n=name: made.cluster(n)["tunnel"]["up"], f"the tunnel of {name}", 60)
    _set_source(made, "heapster", {
        "kind": "influxdb", "settings": {"database": "k8s", "username": USER},
        "secrets": {"password": PASSWORD},
    })  # fmt: skip
    _set_source(made, "prometheus", {"kind": "prometheus"})


def _set_source(made: Installation, name: str, body: dict[str, Any]) -> None:
    path = f"/clusters/{made.clusters[name]}/source/"
    status, answer = made.api.ask("PUT", path, body)
    assert status == 200, answer
    assert answer["saved"], answer["report"]


def _go_through_a_cut(made: Installation) -> None:
    for name in made.clusters:
        wait_until(lambda n=name: made.as_of(n), f"data of {name}", 180)
    made.cut_at = time.time()
    made.link.refuse()
    for name in made.clusters:
        wait_until(lambda n=name: not made.cluster(n)["tunnel"]["up"], f"{name} is cut off", 60)
    time.sleep(max(0.0, made.cut_at + CUT_SECONDS - time.time()))
    made.link.restore()
    made.restored_at = time.time()
    with ThreadPoolExecutor(len(made.clusters)) as threads:
        list(threads.map(lambda name: _wait_until_whole(made, name), made.clusters))


def _wait_until_whole(made: Installation, name: str) -> None:
    """Wait until everything that came due in the cut is in."""
    due = int(made.restored_at - SETTLE[name]) // 60 * 60

    def is_whole() -> bool:
        late = made.as_of(name) < due
        return not late and not made.api.windows(made.clusters[name], "gap")

    wait_until(is_whole, f"{name} is whole up to {due}", 120)
