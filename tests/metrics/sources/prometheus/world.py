"""Known samples for a Prometheus, and what a source must make of them, worked out apart.

The oracle knows no PromQL: it goes through the samples of each series one by one, with
Prometheus' own formulas for rates (``promql/functions.go``, extrapolatedRate) and for gauges
(the newest sample of the last five minutes).
"""

from __future__ import annotations

import math
import random
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate, pairwise

from metrics.series.catalog import FIELD_NAMES
from metrics.series.rows import SeriesKey
from tests.servers.prometheus import Sample, Series, version

MINUTE = 60
SCRAPE = 30  # seconds
Labels = Mapping[str, str]
Value = Callable[[int], float | None]
Expected = dict[tuple[int, SeriesKey], dict[str, float]]
GIB = 1 << 30


class World:
    """Samples from ``start`` for ``minutes``, as several replicas scraped them."""

    def __init__(
        self, start: int, minutes: int, seed: int, replicas: Sequence[tuple[Labels, int]],
        scrape: int = SCRAPE,
    ):  # fmt: skip
        self.start, self.end = start, start + minutes * MINUTE
        self.outages: list[tuple[int, int]] = []
        self._replicas = replicas
        self._scrape = scrape
        self._random = random.Random(seed)
        self._truth: dict[tuple[str, frozenset[tuple[str, str]]], list[list[Sample]]] = {}

    def counter(self, per_second: int, *, resets: Sequence[int] = ()) -> Value:
        """Return a counter that grows unevenly, and starts anew at the given seconds."""
        size = self.end - self.start + MINUTE
        total = 0
        values = []
        for second, step in enumerate(
            accumulate(self._random.randint(0, 2 * per_second) for _ in range(size))
        ):
            if second in resets:
                total = step
            values.append(float(step - total + 10_000))
        return lambda time: values[time - self.start]

    def gauge(self, low: int, high: int) -> Value:
        """Return a gauge that is another one at each scrape."""
        values = [self._random.randint(low, high) for _ in range(self.end - self.start + MINUTE)]
        return lambda time: float(values[time - self.start])

    def add(
        self, name: str, labels: Labels, value: Value | float, since: int = 0, until: int = 1 << 40
    ) -> None:
        """Add one series, in every replica."""
        kept = []
        for _, offset in self._replicas:
            samples: list[Sample] = []
            for time in range(self.start + offset, self.end + 1, self._scrape):
                gone = any(a <= time < b for a, b in self.outages)
                if gone or not since <= time < until:
                    continue
                number = value(time) if callable(value) else float(value)
                if number is not None:
                    samples.append((float(time), number))
            kept.append(samples)
        self._truth[name, frozenset(labels.items())] = kept

    def series(self) -> list[Series]:
        """Return everything as a server holds it."""
        return [
            (name, {**dict(labels), **extra}, samples)
            for (name, labels), kept in self._truth.items()
            for (extra, _), samples in zip(self._replicas, kept, strict=True)
            if samples
        ]

    def scraped(self, minute: int) -> bool:
        """Tell whether any sample was taken within 65 s before the minute's end."""
        end = minute + MINUTE
        kept = [
            samples for (name, _), all_ in self._truth.items() if name == "up" for samples in all_
        ]
        return any(_window(samples, end - 65, end) for samples in kept)

    def find(self, name: str, **labels: str) -> list[tuple[dict[str, str], list[list[Sample]]]]:
        """Return the series of a name that have these labels."""
        return [
            (dict(have), kept)
            for (known, have), kept in self._truth.items()
            if known == name and set(labels.items()) <= have
        ]


def _window(samples: Sequence[Sample], low: float, high: float) -> Sequence[Sample]:
    return samples[bisect_left(samples, low, key=_time) : bisect_right(samples, high, key=_time)]


def _time(sample: Sample) -> float:
    return sample[0]


class Prometheus:
    """How Prometheus reads samples."""

    lookback = 300
    edge = 0.0  # how far behind the start of a window it begins

    def newest(self, kept: Sequence[Sequence[Sample]], end: int, within: int = 300) -> float | None:
        """Return the largest of the replicas' newest samples; None if there is none."""
        found = []
        for samples in kept:
            inside = [v for _, v in _window(samples, end - self.lookback + self.edge, end)]
            fresh = _window(samples, end - within + self.edge, end)
            if inside and fresh and not math.isnan(inside[-1]):
                found.append(inside[-1])
        return max(found, default=None)

    def rate(self, kept: Sequence[Sequence[Sample]], end: int, seconds: int = 120) -> float | None:
        """Return the largest of the replicas' rates."""
        found = [self._rate(samples, end, seconds) for samples in kept]
        return max((value for value in found if value is not None), default=None)

    def was_reset(self, kept: Sequence[Sequence[Sample]], end: int, seconds: int = 120) -> bool:
        """Tell whether a counter went back within a rate's window."""
        return any(
            b < a
            for samples in kept
            for (_, a), (_, b) in pairwise(self._of_rate(samples, end, seconds))
        )

    def _of_rate(self, samples: Sequence[Sample], end: int, seconds: int) -> Sequence[Sample]:
        return _window(samples, end - seconds + self.edge, end)

    def _rate(self, all_samples: Sequence[Sample], end: int, seconds: int) -> float | None:
        samples = self._of_rate(all_samples, end, seconds)
        if len(samples) < 2:
            return None
        grown = _growth(samples)
        covered = samples[-1][0] - samples[0][0]
        usual = covered / (len(samples) - 1)
        before, after = samples[0][0] - (end - seconds), end - samples[-1][0]
        if grown > 0 and samples[0][1] >= 0:
            before = min(before, covered * samples[0][1] / grown)
        reach = covered
        reach += before if before < 1.1 * usual else usual / 2
        reach += after if after < 1.1 * usual else usual / 2
        return grown * (reach / covered) / seconds


class Prometheus3(Prometheus):
    """How Prometheus reads them from version 3 on: a window does not include its start."""

    edge = 0.001


def running_prometheus() -> Prometheus:
    """Return the rules of the Prometheus that tests run here."""
    return Prometheus3() if version() >= (3, 0) else Prometheus()


class VictoriaMetrics(Prometheus):
    """How VictoriaMetrics reads them.

    A window does not include its start, a gauge is as old as one step at most, samples that are
    no numbers are not stored, and a rate begins at the sample before its window.
    """

    def newest(self, kept: Sequence[Sequence[Sample]], end: int, within: int = 300) -> float | None:
        found = []
        for samples in kept:
            inside = _window(samples, end - MINUTE + 0.001, end)
            found += [value for _, value in inside if not math.isnan(value)][-1:]
        return max(found, default=None)

    def _of_rate(self, samples: Sequence[Sample], end: int, seconds: int) -> Sequence[Sample]:
        before = _window(samples, end - seconds - 1.25 * MINUTE, end - seconds)[-1:]
        return [*before, *_window(samples, end - seconds + 0.001, end)]

    def _rate(self, all_samples: Sequence[Sample], end: int, seconds: int) -> float | None:
        samples = self._of_rate(all_samples, end, seconds)
        if len(samples) < 2:
            return None
        return _growth(samples) / (samples[-1][0] - samples[0][0])


def _growth(samples: Sequence[Sample]) -> float:
    lost = sum(a for (_, a), (_, b) in pairwise(samples) if b < a)
    return samples[-1][1] - samples[0][1] + lost


def _any(labels: Labels) -> bool:
    return True


def total(values: Sequence[float | None]) -> float | None:
    """Return the sum of what is there; None if nothing is."""
    there = [value for value in values if value is not None]
    return sum(there) if there else None


class Oracle:
    """What each minute of a world must be, by plain arithmetic."""

    def __init__(
        self, world: World, nodes: Mapping[str, Labels], rules: Prometheus, *, old: bool = False
    ) -> None:
        self._world, self._nodes, self._rules = world, nodes, rules
        self._pod, self._container = ("pod_name", "container_name") if old else ("pod", "container")

    def expected(self, start: int, end: int) -> Expected:
        """Return the values of every minute and series that has one."""
        result: Expected = {}
        for minute in range(start, end, MINUTE):
            if not self._world.scraped(minute):
                continue
            at = minute + MINUTE
            for node, exporter in self._nodes.items():
                disks = self._disks(exporter, at)
                for point, values in disks.items():
                    self._put(result, minute, SeriesKey("filesystem", node, point), values)
                values = self._node(node, exporter, at)
                for field, part in (
                    ("fs_used", "used"),
                    ("fs_cap", "cap"),
                    ("inodes_total",) * 2,
                    ("inodes_free",) * 2,
                ):
                    values[field] = total([disk[part] for disk in disks.values()])
                self._put(result, minute, SeriesKey("node", "", node), values)
            for ns, pod in self._pods():
                self._put(result, minute, SeriesKey("pod", ns, pod), self._pod_values(ns, pod, at))
        return result

    @staticmethod
    def _put(
        result: Expected, minute: int, key: SeriesKey, values: dict[str, float | None]
    ) -> None:
        assert set(values) <= set(FIELD_NAMES[key.kind])
        there = {name: value for name, value in values.items() if value is not None}
        if there:
            result[minute, key] = there

    def _one(self, name: str, at: int, within: int = 300, **labels: str) -> float | None:
        found = [
            self._rules.newest(kept, at, within) for _, kept in self._world.find(name, **labels)
        ]
        return max((value for value in found if value is not None), default=None)

    def _summed(
        self, name: str, at: int, keep: Callable[[Labels], bool], **labels: str
    ) -> float | None:
        return total(
            [
                self._rules.rate(kept, at)
                for have, kept in self._world.find(name, **labels)
                if keep(have)
            ]
        )

    def _network(
        self, name: str, at: int, keep: Callable[[Labels], bool], **labels: str
    ) -> float | None:
        found = [kept for have, kept in self._world.find(name, **labels) if keep(have)]
        if any(self._rules.was_reset(kept, at) for kept in found):
            return None
        return total([self._rules.rate(kept, at) for kept in found])

    def _disks(self, exporter: Labels, at: int) -> dict[str, dict[str, float | None]]:
        points: dict[str, dict[str, float | None]] = {}
        taken: set[str] = set()
        found = self._world.find("node_filesystem_size_bytes", **exporter)
        for have, _ in sorted(found, key=lambda one: len(one[0]["mountpoint"])):
            if have["fstype"] == "tmpfs" or have["device"] in taken:
                continue
            taken.add(have["device"])
            size, free, avail, files, left = (
                self._one(f"node_filesystem_{name}", at, **exporter, mountpoint=have["mountpoint"])
                for name in ("size_bytes", "free_bytes", "avail_bytes", "files", "files_free")
            )
            if None in (size, free, avail, files, left):
                continue
            points[have["mountpoint"]] = {
                "used": size - free,
                "cap": size - free + avail,
                "inodes_total": files,
                "inodes_free": left,
            }
        return points

    def _node(self, node: str, exporter: Labels, at: int) -> dict[str, float | None]:
        one = self._one
        kubelet = {"id": "/", "kubelet_of": node}
        cpu = self._summed("container_cpu_usage_seconds_total", at, _any, **kubelet)
        if cpu is None:
            cpu = self._summed(
                "node_cpu_seconds_total",
                at,
                lambda have: have["mode"] not in ("idle", "iowait"),
                **exporter,
            )
        memory = one("container_memory_working_set_bytes", at, 90, **kubelet)
        ram = one("node_memory_MemTotal_bytes", at, **exporter)
        # Used is total without available, so the largest use is that of the least available.
        left = [
            self._rules.newest([one_replica], at)
            for _, kept in self._world.find("node_memory_MemAvailable_bytes", **exporter)
            for one_replica in kept
        ]
        available = min((value for value in left if value is not None), default=None)
        if memory is None and None not in (ram, available):
            memory = ram - available
        cores = one("kube_node_status_capacity", at, node=node, resource="cpu")
        cores = (
            one("kube_node_status_capacity_cpu_cores", at, node=node) if cores is None else cores
        )
        if cores is None and (
            idle := self._world.find("node_cpu_seconds_total", mode="idle", **exporter)
        ):
            there = [self._rules.newest(kept, at) for _, kept in idle]
            cores = None if None in there else float(len(there))
        capacity = one("kube_node_status_capacity", at, node=node, resource="memory")
        capacity = (
            one("kube_node_status_capacity_memory_bytes", at, node=node)
            if capacity is None
            else capacity
        )
        booted = one("node_boot_time_seconds", at, **exporter)
        load = one("node_load1", at, **exporter)
        values: dict[str, float | None] = {
            "cpu_mc": None if cpu is None else 1000 * cpu,
            "cpu_cap_mc": None if cores is None else 1000 * cores,
            "mem_ws": memory,
            "mem_cap": ram if capacity is None else capacity,
            "load1_m": None if load is None else 1000 * load,
            "uptime_s": None if booted is None else at - booted,
            "ready": one(
                "kube_node_status_condition", at, node=node, condition="Ready", status="true"
            ),
            "etcd_leader_changes": one("etcd_server_leader_changes_seen_total", at, of=node),
            "etcd_fsync_us": self._fsync(node, at),
        }
        for field, way in (("net_rx_bps", "receive"), ("net_tx_bps", "transmit")):
            values[field] = self._network(
                f"node_network_{way}_bytes_total",
                at,
                lambda have: have["device"] == "eth0",
                **exporter,
            )
        pods = [
            have
            for have, kept in self._world.find("kube_pod_info", node=node)
            if self._rules.newest(kept, at)
        ]
        values["pods"] = len(pods) or None
        if not self._world.find("kube_node_info"):
            values["ready"] = 1 if any(value is not None for value in values.values()) else None
        return values

    def _fsync(self, node: str, at: int) -> float | None:
        """Return histogram_quantile(0.99, rate[5m]) of the node's etcd in microseconds."""
        found = self._world.find("etcd_disk_wal_fsync_duration_seconds_bucket", of=node)
        rate = self._rules.rate
        buckets = sorted((float(have["le"]), rate(kept, at, 300)) for have, kept in found)
        if not buckets or buckets[-1][1] in (None, 0):
            return None
        rank = 0.99 * buckets[-1][1]
        low = below = 0.0
        for bound, count in buckets:
            if count >= rank:
                return 1e6 * (low + (bound - low) * (rank - below) / (count - below))
            low, below = bound, count
        raise AssertionError("the last bucket has them all")

    def _pods(self) -> set[tuple[str, str]]:
        return {
            (have["namespace"], have[self._pod])
            for have, _ in self._world.find("container_memory_working_set_bytes")
            if have.get(self._pod)
        }

    def _pod_values(self, ns: str, pod: str, at: int) -> dict[str, float | None]:
        of = {"namespace": ns, self._pod: pod}
        container = lambda have: have.get(self._container, "") not in ("", "POD")  # noqa: E731

        def summed(name: str) -> float | None:
            parts: dict[tuple[str, str | None], list[float]] = {}
            for have, kept in self._world.find(name, **of):
                if container(have) and (value := self._rules.newest(kept, at, 90)) is not None:
                    parts.setdefault((have[self._container], have.get("device")), []).append(value)
            return total([max(values) for values in parts.values()])

        cpu: dict[str, list[float]] = {}
        for have, kept in self._world.find("container_cpu_usage_seconds_total", **of):
            if container(have) and (value := self._rules.rate(kept, at)) is not None:
                cpu.setdefault(have[self._container], []).append(value)
        used = total([max(values) for values in cpu.values()])
        values: dict[str, float | None] = {
            "cpu_mc": None if used is None else 1000 * used,
            "mem_ws": summed("container_memory_working_set_bytes"),
            "mem_rss": summed("container_memory_rss"),
            "fs_used": summed("container_fs_usage_bytes"),
            "restarts": total(
                [
                    self._rules.newest(kept, at)
                    for _, kept in self._world.find(
                        "kube_pod_container_status_restarts_total", namespace=ns, pod=pod
                    )
                ]
            ),
        }
        on_host = self._world.find("kube_pod_info", namespace=ns, pod=pod, host_network="true")
        for field, way in (("net_rx_bps", "receive"), ("net_tx_bps", "transmit")):
            values[field] = (
                None
                if on_host
                else self._network(
                    f"container_network_{way}_bytes_total",
                    at,
                    lambda have: have["interface"] != "lo",
                    **of,
                )
            )
        return values
