"""CPU seconds per million samples, from the source into the store, beside two servers that scrape.

The same exporters feed three servers at the same time: a Prometheus as each cluster has it, a
Prometheus that federates it, and a VictoriaMetrics that scrapes the exporters itself. Their CPU is
the kernel's figure for the process over the same minute, divided by the samples that they say
they took in. Ours is what ``pull`` measured in this run: the worker and the hub, a pull a minute,
through the tunnel; and what :mod:`tests.bench.asking` finds for a cluster's own Prometheus. A
sample of ours is a field's minute: four samples folded, with cluster sums and both rollups made of
it. What the sources spend on answering is reported separately.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.bench import asking
from tests.bench.openssh import free_port, wait_for_port
from tests.bench.processes import MissingServerError, call, cpu_seconds, find, running, wait_for
from tests.bench.report import Measure, Report

AREA = "cost"
CLUSTERS = 20  # of 10 nodes and 300 pods
INTERVAL_SECONDS = 10  # not 60, so that a minute has enough samples to measure
MEASURED_SECONDS = 60
_OURS = ("by tunnel, 1 min a pull", "by tunnel, 10 min a pull")


@dataclass
class Server:
    """One of the three, and its CPU and samples at the start of the measured minute."""

    name: str
    pid: int
    url: str
    counter: str
    cpu: float = 0.0
    samples: float = 0.0

    def begin(self) -> None:
        """Remember where it is."""
        self.cpu, self.samples = cpu_seconds(self.pid), self._taken()

    def end(self) -> None:
        """Store its CPU and samples since then."""
        self.cpu = cpu_seconds(self.pid) - self.cpu
        self.samples = self._taken() - self.samples

    def ready(self, samples: int) -> bool:
        """Return whether it has ingested so many samples."""
        return self._taken() >= samples

    @property
    def per_million(self) -> float:
        """Return CPU seconds per million samples."""
        return 1e6 * self.cpu / self.samples

    def _taken(self) -> float:
        lines = call(f"{self.url}/metrics").decode().splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(self.counter))


def run(report: Report, scale: float = 1.0) -> None:
    """Let them scrape for a minute and compare what it cost."""
    clusters = max(1, round(CLUSTERS * scale))
    try:
        with tempfile.TemporaryDirectory() as name, _servers(clusters, Path(name)) as servers:
            _measure(servers, clusters)
        asking.run(report, AREA)
    except MissingServerError as exc:
        report.leave_out(AREA, "peers that scrape", str(exc))
        return
    source, central, scraper = servers
    about = f"{central.samples:,.0f} samples of {clusters} clusters in {MEASURED_SECONDS} s"
    for server, note in (
        (central, about),
        (scraper, "scrapes the exporters"),
        (source, "scrapes the exporters and is federated from"),
    ):
        report.add(Measure(AREA, f"{server.name}: CPU", "s/million", server.per_million, note=note))
    for way in _OURS:
        found = {m.name: m.value for m in report.measures if m.area == "pull" and m.value}
        worker, hub = found.get(f"{way}: worker's CPU"), found.get(f"{way}: hub's CPU")
        if worker is None or hub is None:
            report.leave_out(AREA, f"ours, {way}", "the area pull was not run before")
            continue
        for server in (central, scraper):
            report.add(Measure(AREA, f"ours, {way}: CPU", "s/million", worker + hub,
                               server.name, server.per_million,
                               (worker + hub) / server.per_million))  # fmt: skip


def _measure(servers: list[Server], clusters: int) -> None:
    """Wait until each knows all series, then take one minute."""
    series = clusters * 2000
    for server in servers:
        wait_for(lambda s=server: s.ready(3 * series), f"{server.name} scrapes", 120)
    for server in servers:
        server.begin()
    time.sleep(MEASURED_SECONDS)
    for server in servers:
        server.end()


@contextlib.contextmanager
def _servers(clusters: int, directory: Path) -> Iterator[list[Server]]:
    """Run exporters, source, federation and scraper."""
    prometheus = find("prometheus", "prometheus")
    victoria = find("victoria-metrics", "victoria-metrics")
    appended = "prometheus_tsdb_head_samples_appended_total"
    with contextlib.ExitStack() as stack:
        exporters = stack.enter_context(_exporters(clusters))
        scrape = _scrape_config(exporters, clusters)
        servers = []
        urls = []
        for name in ("source", "federation"):
            port = free_port()
            urls.append(f"http://127.0.0.1:{port}")
            config = directory / f"{name}.yml"
            config.write_text(scrape if name == "source" else _federation_config(urls[0]))
            command = [prometheus, f"--config.file={config}",
                       f"--storage.tsdb.path={directory / name}",
                       f"--web.listen-address=127.0.0.1:{port}"]  # fmt: skip
            pid = stack.enter_context(
                running(command, f"{urls[-1]}/-/ready", directory / f"{name}.log")
            )
            servers.append(Server(f"Prometheus, {name}", pid, urls[-1], appended))
        port, config = free_port(), directory / "vm.yml"
        config.write_text(scrape)
        url = f"http://127.0.0.1:{port}"
        command = [victoria, f"-httpListenAddr=127.0.0.1:{port}",
                   f"-storageDataPath={directory / 'vm'}",
                   f"-promscrape.config={config}"]  # fmt: skip
        pid = stack.enter_context(running(command, f"{url}/health", directory / "vm.log"))
        counter = 'vm_rows_inserted_total{type="promscrape"}'
        servers.append(Server("VictoriaMetrics, scrape", pid, url, counter))
        yield servers


@contextlib.contextmanager
def _exporters(clusters: int) -> Iterator[int]:
    port = free_port()
    command = [sys.executable, "-m", "tests.bench.exporter", str(port), str(clusters)]
    with subprocess.Popen([*command, str(INTERVAL_SECONDS)]) as process:
        try:
            wait_for_port(port, 60)
            yield port
        finally:
            process.terminate()


def _scrape_config(port: int, clusters: int) -> str:
    jobs = "".join(
        f"""
- job_name: cluster-{number}
  metrics_path: /metrics/{number}
  honor_labels: true
  static_configs: [{{targets: ["127.0.0.1:{port}"], labels: {{cluster: bench-{number:03}}}}}]"""
        for number in range(clusters)
    )
    return f"global: {{scrape_interval: {INTERVAL_SECONDS}s}}\nscrape_configs:{jobs}\n"


def _federation_config(url: str) -> str:
    return f"""
global: {{scrape_interval: {INTERVAL_SECONDS}s, scrape_timeout: {INTERVAL_SECONDS}s}}
scrape_configs:
- job_name: federate
  honor_labels: true
  metrics_path: /federate
  params: {{"match[]": ['{{job=~"cluster-.*"}}']}}
  static_configs: [{{targets: ["{url.removeprefix("http://")}"]}}]
"""
