"""The same fleet in Prometheus, VictoriaMetrics and InfluxDB 1.x: how many bytes a value takes.

Each gets the numbers by its own import of history, is given the time to bring its files into
their final form, and is measured by the sizes of those files: what is data and what is index.
Values are compared with what the source sent, so that storing more of them gives no advantage.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import time
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from tests.bench.openssh import free_port
from tests.bench.processes import call, cpu_seconds, find, running, size_of, wait_for
from tests.bench.workload import Cluster, Numbers

_LINES = 5000  # of one request to InfluxDB, as its makers advise
_QUIET_SECONDS = 6  # without a change of its files, InfluxDB is done


@dataclass(frozen=True, slots=True)
class Size:
    """What a peer made of the fleet.

    Attributes:
        name: its name with its version.
        data: bytes of values.
        index: bytes of names and of indexes.
        values: number that it reports to hold.
        load_seconds: wall time of taking them in.
        cpu_seconds: CPU seconds of its processes for it, including the final form of the files.
        how: what was done, in a few words, for the report.
    """

    name: str
    data: int
    index: int
    values: int
    load_seconds: float
    cpu_seconds: float
    how: str


def prometheus(fleet: Sequence[Cluster], directory: Path) -> Size:
    """Make blocks of two hours, as its own compaction does, and measure them."""
    binary, tool = find("prometheus", "prometheus"), find("promtool", "prometheus")
    text, blocks = directory / "fleet.om", directory / "blocks"
    with text.open("w", encoding="utf-8") as file:
        _write_openmetrics(fleet, file)
    begin = time.perf_counter()
    process = subprocess.Popen(
        [tool, "tsdb", "create-blocks-from", "openmetrics", str(text), str(blocks)],
        stdout=subprocess.DEVNULL,
    )
    used = _cpu_until_end(process)
    seconds = time.perf_counter() - begin
    text.unlink()
    metas = [json.loads(path.read_text()) for path in blocks.glob("*/meta.json")]
    return Size(
        f"Prometheus {_version('prometheus', [binary, '--version'])}",
        sum(size_of(path) for path in blocks.glob("*/chunks")),
        sum(path.stat().st_size for path in blocks.glob("*/index")),
        sum(meta["stats"]["numSamples"] for meta in metas),
        seconds,
        used,
        f"{len(metas)} blocks of two hours by promtool",
    )


def victoriametrics(fleet: Sequence[Cluster], directory: Path) -> Size:
    """Import by series, flush and merge."""
    binary = find("victoria-metrics", "victoria-metrics")
    port, data = free_port(), directory / "vm"
    url = f"http://127.0.0.1:{port}"
    command = [binary, f"-httpListenAddr=127.0.0.1:{port}", f"-storageDataPath={data}",
               "-retentionPeriod=100y", "-search.latencyOffset=0s"]  # fmt: skip
    with running(command, f"{url}/health", directory / "vm.log") as pid:
        begin = time.perf_counter()
        for cluster in fleet:
            call(f"{url}/api/v1/import", _import_lines(cluster))
        call(f"{url}/internal/force_flush")
        seconds = time.perf_counter() - begin
        call(f"{url}/internal/force_merge")
        wait_for(lambda: _metric(url, "vm_active_force_merges") == 0, "merged")
        _wait_until_quiet(data)
        used = cpu_seconds(pid)
        rows = int(
            _metric(url, 'vm_rows{type="storage/big"}')
            + _metric(url, 'vm_rows{type="storage/small"}')
        )
    return Size(
        f"VictoriaMetrics {_version('victoria-metrics', [binary, '-version'])}",
        size_of(data / "data"),
        size_of(data / "indexdb"),
        rows,
        seconds,
        used,
        "import, force_flush, force_merge",
    )


def influxdb(fleet: Sequence[Cluster], directory: Path) -> Size:
    """Write lines of all fields of a series, snapshot the cache, compact fully."""
    binary = find("influxd", "influxdb")
    port, rpc, data = free_port(), free_port(), directory / "influxdb"
    config = directory / "influxdb.conf"
    config.write_text(_INFLUXDB.format(data=data, port=port, rpc=rpc))
    url = f"http://127.0.0.1:{port}"
    command = [binary, "-config", str(config)]
    with running(command, f"{url}/ping", directory / "influxdb.log") as pid:
        call(f"{url}/query?q=CREATE+DATABASE+bench", b"")
        begin = time.perf_counter()
        for cluster in fleet:
            for lines in _slices(_line_protocol(cluster)):
                call(f"{url}/write?db=bench&precision=s", lines)
        seconds = time.perf_counter() - begin
        wait_for(lambda: size_of(data / "wal") < 1000, "its log is in its files")
        _wait_until_quiet(data / "data")
        used = cpu_seconds(pid)
        held = sum(_influxdb_count(url, kind) for kind in ("node", "pod"))
    series = size_of(data / "data" / "bench" / "_series")
    return Size(
        f"InfluxDB {_version('influxdb', [binary, 'version'])}",
        size_of(data / "data" / "bench") - series,
        series,
        held,
        seconds,
        used,
        f"lines of all fields in {_LINES}s, after full compaction; TSM with its own index",
    )


_INFLUXDB = """
reporting-disabled = true
bind-address = "127.0.0.1:{rpc}"
[meta]
  dir = "{data}/meta"
[data]
  dir = "{data}/data"
  wal-dir = "{data}/wal"
  cache-snapshot-write-cold-duration = "1s"
  compact-full-write-cold-duration = "2s"
  query-log-enabled = false
[monitor]
  store-enabled = false
[http]
  bind-address = "127.0.0.1:{port}"
  log-enabled = false
"""


def _labels(cluster: Cluster, one: Numbers) -> dict[str, str]:
    """Return the labels of a series, the same for all peers."""
    if one.key.kind == "node":
        return {"cluster": cluster.name, "node": one.key.name}
    return {
        "cluster": cluster.name, "namespace": one.key.ns, "pod": one.key.name, "node": one.node,
    }  # fmt: skip


def _write_openmetrics(fleet: Iterable[Cluster], file: TextIO) -> None:
    """Write every series behind the head of its metric, as OpenMetrics wants it."""
    by_metric: dict[str, list[tuple[Cluster, Numbers, array[int]]]] = {}
    for cluster in fleet:
        for one in cluster.series:
            for name, column in one.fields():
                by_metric.setdefault(f"{one.key.kind}_{name}", []).append((cluster, one, column))
    for metric, parts in by_metric.items():
        file.write(f"# TYPE {metric} gauge\n")
        for cluster, one, column in parts:
            labels = ",".join(f'{key}="{value}"' for key, value in _labels(cluster, one).items())
            head = f"{metric}{{{labels}}}"
            times = range(cluster.start, cluster.start + 60 * len(column), 60)
            file.writelines(
                f"{head} {value} {ts}\n" for ts, value in zip(times, column, strict=True)
            )
    file.write("# EOF\n")


def _import_lines(cluster: Cluster) -> bytes:
    times = json.dumps([1000 * (cluster.start + 60 * at) for at in range(cluster.minutes)])
    lines = []
    for one in cluster.series:
        for name, column in one.fields():
            metric = {"__name__": f"{one.key.kind}_{name}", **_labels(cluster, one)}
            values = ",".join(map(str, column))
            lines.append(f'{{"metric":{json.dumps(metric)},"values":[{values}],"timestamps":')
            lines.append(f"{times}}}\n")
    return "".join(lines).encode()


def _line_protocol(cluster: Cluster) -> Iterator[str]:
    """Yield lines by time, as a live source sends them."""
    heads = [
        ",".join([one.key.kind, *(f"{k}={v}" for k, v in _labels(cluster, one).items())])
        for one in cluster.series
    ]
    shapes = [" " + ",".join(f"{name}=%di" for name, _ in s.fields()) for s in cluster.series]
    columns = [[column for _, column in one.fields()] for one in cluster.series]
    for at in range(cluster.minutes):
        ts = cluster.start + 60 * at
        for head, shape, parts in zip(heads, shapes, columns, strict=True):
            yield f"{head}{shape % tuple(part[at] for part in parts)} {ts}\n"


def _slices(lines: Iterator[str]) -> Iterator[bytes]:
    part: list[str] = []
    for line in lines:
        part.append(line)
        if len(part) == _LINES:
            yield "".join(part).encode()
            part = []
    if part:
        yield "".join(part).encode()


def _influxdb_count(url: str, kind: str) -> int:
    answer = json.loads(call(f"{url}/query?db=bench&q=SELECT+count(*)+FROM+{kind}"))
    return int(sum(answer["results"][0]["series"][0]["values"][0][1:]))


def _metric(url: str, name: str) -> float:
    """Return one number of a server's own metrics; 0 if it has no such."""
    for line in call(f"{url}/metrics").decode().splitlines():
        if line.startswith(f"{name} "):
            return float(line.rpartition(" ")[2])
    return 0.0


def _wait_until_quiet(directory: Path) -> None:
    """Return once no file has come, gone or grown for a while.

    Raises:
        RuntimeError: if that does not happen in ten minutes.
    """
    seen: list[tuple[str, int]] = []
    since = time.monotonic()

    def quiet() -> bool:
        nonlocal seen, since
        now = []
        for path in sorted(directory.rglob("*")):
            with contextlib.suppress(FileNotFoundError):
                now.append((str(path), path.stat().st_size))
        if now != seen:
            seen, since = now, time.monotonic()
        return time.monotonic() - since > _QUIET_SECONDS

    wait_for(quiet, f"{directory} stays as it is", 600)


def _cpu_until_end(process: subprocess.Popen[bytes]) -> float:
    """Return the CPU seconds of a process that is waited for.

    Raises:
        RuntimeError: if it failed.
    """
    used = 0.0
    while process.poll() is None:
        with contextlib.suppress(OSError, IndexError):
            used = max(used, cpu_seconds(process.pid))
        time.sleep(0.05)
    if process.returncode:
        msg = f"{process.args!r} ended with {process.returncode}"
        raise RuntimeError(msg)
    return used


def _version(package: str, command: Sequence[str]) -> str:
    """Return the version that a program prints, or that of its Debian package if it prints none."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(r"\bv?(\d+\.\d+\.\d+)", done.stdout + done.stderr)
    if found is None and shutil.which("dpkg-query"):
        asked = ["dpkg-query", "-W", "-f", "${Version}", package]
        done = subprocess.run(asked, capture_output=True, text=True, check=False)
        found = re.search(r"(\d+\.\d+\.\d+)", done.stdout)
    return found[1] if found else "of unknown version"
