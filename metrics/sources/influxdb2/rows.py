"""Telegraf's points, combined into rows of the catalogue. Pure.

A pod's values are summed over its containers. If two Telegrafs report the same value in one minute,
as while one is replaced by the next, it is averaged. Counters become rates between the last samples
of two consecutive minutes; one that was reset has none for that minute.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import add, sub

from metrics.series.catalog import Kind
from metrics.series.minute_columns import Minutes
from metrics.series.rows import SeriesInfo, SeriesKey
from metrics.series.windows import MINUTE
from metrics.sources.bounds import TOO_LARGE, bounds_of, reason
from metrics.sources.filesystem_sums import sum_filesystems
from metrics.sources.influxdb2.own_parts import Mount, chosen_disks, own_traffic
from metrics.sources.influxdb2.responses import Columns
from metrics.sources.row_builder import (
    MASK,
    SHIFT,
    Table,
    Tags,
    believable_parts,
    codes_of,
    count_pods,
    integers,
    of_series,
)

_NANOCORES = -1_000_000
_CONTAINER = {
    "cpu_mc": ("cpu_usage_nanocores",),
    "mem_ws": ("memory_working_set_bytes",),
    "mem_rss": ("memory_rss_bytes",),
    # Volumes are left out: Telegraf does not say which are claims and which are in memory.
    "fs_used": ("rootfs_used_bytes", "logsfs_used_bytes"),
}
_IDLE_MOST = 101.0  # percent; the sum of two means, each rounded
_COUNTED = ("net_rx_bps", "net_tx_bps")
_NOBODY: Tags = (None, None)
_KINDS: tuple[Kind, ...] = ("node", "filesystem", "pod")


Values = Sequence[float | None]


@dataclass(slots=True)
class Tables:
    """The tables of an answer, built from the columns of its streams.

    Attributes:
        found: the columns of every stream, by its name.
        start: start of the requested window in Unix seconds; earlier points are only for the first
            rates.
        disks: what else is known of filesystems.
    """

    found: Mapping[str, Columns]
    start: int
    tables: dict[Kind, Table] = field(default_factory=lambda: {k: Table(k) for k in _KINDS})
    disks: dict[SeriesKey, Mount] = field(default_factory=dict)

    @property
    def ignored(self) -> int:
        """Return how many points were left out: of no series."""
        return sum(table.ignored for table in self.tables.values())

    @property
    def refused(self) -> Counter[str]:
        """Return how many parts of sums cannot be believed, by reason."""
        return sum((table.refused for table in self.tables.values()), Counter())

    def minutes(self, before: int) -> Minutes:
        """Return the minutes earlier than ``before``."""
        return Minutes(table.minutes(before) for table in self.tables.values())

    def times(self) -> set[int]:
        """Return every minute in which anything has a value."""
        return {time for table in self.tables.values() for time in table.times()}

    def infos(self) -> list[SeriesInfo]:
        """Return every series."""
        infos = [info for table in self.tables.values() for info in table.infos()]
        return [
            replace(info, attrs=self.disks[info.key].attrs()) if info.key in self.disks else info
            for info in infos
        ]

    def fill(self) -> set[str]:
        """Fill all tables; return Telegraf's hosts that are not nodes of the cluster.

        Raises:
            BadResponseError: a value is not a number, or a name is not valid.
        """
        nodes, pods = self.tables["node"], self.tables["pod"]
        self._kubelets(nodes)
        self._pods(pods)
        known = {key.name for key in nodes.keys}
        unknown_nodes: set[str] = set()
        machines = Table("node")
        self._machines(machines)
        # A kubelet's counter that was reset must not be continued by another counter.
        counted = {tags[0] for tags in self.found["node_net"].tags}
        for name, column in machines.fields.items():
            for code, cell in column.items():
                host = machines.keys[code & MASK].name
                if known and host not in known:
                    unknown_nodes.add(host)
                    continue
                if name in _COUNTED and host in counted:
                    continue
                node_code = (code >> SHIFT) << SHIFT | nodes.numbers[(host,)]
                nodes.fields[name].setdefault(node_code, cell)
        nodes.refused += machines.refused
        nodes.ignored += machines.ignored
        self._filesystems(unknown_nodes)
        devices = {key: (mount.device, mount.fstype) for key, mount in self.disks.items()}
        sum_filesystems(self.tables["filesystem"], nodes, devices)
        count_pods(pods, nodes)
        return unknown_nodes

    def _kubelets(self, nodes: Table) -> None:
        found = self.found["node"]
        self._gauge(nodes, "cpu_mc", "node", "cpu_usage_nanocores", _NANOCORES)
        self._gauge(nodes, "cpu_cap_mc", "node", "capacity_millicpu_cores")
        if not nodes.fields["cpu_cap_mc"]:
            self._gauge(nodes, "cpu_cap_mc", "node", "capacity_cpu_cores", 1000)
        self._gauge(nodes, "mem_ws", "node", "memory_working_set_bytes")
        self._gauge(nodes, "mem_cap", "node", "capacity_memory_bytes")
        if not nodes.fields["mem_cap"]:
            used, free = (
                found.fields[name]
                for name in ("memory_working_set_bytes", "memory_available_bytes")
            )
            self._put(nodes, "mem_cap", found, _each(used, free, add), "kubernetes_node")
        for ours, theirs in (
            ("net_rx_bps", "network_rx_bytes"),
            ("net_tx_bps", "network_tx_bytes"),
        ):
            self._rate(nodes, ours, "node_net", theirs, 1)
        ready = merged(self.found["ready"])
        states = [None if v is None else float(v == 1) for v in ready.fields["status_condition"]]
        self._put(nodes, "ready", ready, states, "kubernetes_node")

    def _pods(self, pods: Table) -> None:
        found = self.found["container"]
        where = "kubernetes_pod_container"
        numbers = [pods.numbers[tags[:3]] for tags in found.tags]
        point_codes = codes_of(found.times, numbers)
        for ours, theirs in _CONTAINER.items():
            codes: list[int] = []
            values: list[float] = []
            for name in theirs:
                column = found.fields[name]
                codes += (c for c, v in zip(point_codes, column, strict=True) if v is not None)
                values += (v for v in column if v is not None)
            scale = _NANOCORES if ours == "cpu_mc" else 1
            self._sum(pods, ours, codes, values, where, scale)
        hosts = zip(point_codes, found.tags, strict=True)
        pods.hosts.update((code, tags[2] or "") for code, tags in hosts if code >= 0)
        self._rate(pods, "net_rx_bps", "pod_net", "rx_bytes", 3)
        self._rate(pods, "net_tx_bps", "pod_net", "tx_bytes", 3)
        restarts = self.found["restarts"]
        # A container has a series for each of its states; a counter only rises.
        highest: dict[tuple[int, Tags], float] = {}
        for time, tags, value in _present(restarts, restarts.fields["restarts_total"]):
            if time >= self.start:
                key = (time - time % MINUTE, tags)
                highest[key] = max(value, highest.get(key, value))
        codes = codes_of((t for t, _ in highest), (pods.numbers[tags[:3]] for _, tags in highest))
        self._sum(pods, "restarts", codes, list(highest.values()), where)

    def _machines(self, machines: Table) -> None:
        cpu, system, memory = self.found["cpu"], self.found["system"], self.found["mem"]
        self._gauge(machines, "cpu_cap_mc", "system", "n_cpus", 1000)
        self._gauge(machines, "load1_m", "system", "load1", 1000)
        self._gauge(machines, "uptime_s", "system", "uptime")
        idle = [
            None if one is None else one + (other or 0.0)
            for one, other in zip(cpu.fields["usage_idle"], cpu.fields["usage_iowait"], strict=True)
        ]
        keys = zip(system.times, system.tags, strict=True)
        cores = dict(zip(keys, system.fields["n_cpus"], strict=True))
        counts = [cores.get(key) for key in zip(cpu.times, cpu.tags, strict=True)]
        busy = _each(idle, counts, lambda a, n: _busy_percent(a) * 10.0 * n)
        self._put(machines, "cpu_mc", cpu, busy, "cpu")
        self._gauge(machines, "mem_cap", "mem", "total")
        free, whole = memory.fields["available"], memory.fields["total"]
        self._put(machines, "mem_ws", memory, _each(whole, free, sub), "mem")
        self.found = {**self.found, "net": own_traffic(self.found["net"])}
        self._rate(machines, "net_rx_bps", "net", "bytes_recv", 1)
        self._rate(machines, "net_tx_bps", "net", "bytes_sent", 1)

    def _filesystems(self, unknown_nodes: set[str]) -> None:
        """Add disks by path; for nodes without any, the one that the kubelet reports."""
        table = self.tables["filesystem"]
        disks, mounts, refused = chosen_disks(self.found["disk"], unknown_nodes)
        disks = merged(disks)
        for name, values in disks.fields.items():
            self._put(table, name, disks, values, "disk")
        for names, mount in mounts.items():
            number = table.numbers[names]
            if number >= 0:
                self.disks[table.keys[number]] = mount
        table.ignored += refused
        having = {key.ns for key in table.keys}
        found = self.found["node"]
        tags = [_NOBODY if one[0] in having else (one[0], "nodefs") for one in found.tags]
        for ours, theirs in (("used", "fs_used_bytes"), ("cap", "fs_capacity_bytes")):
            self._put(table, ours, found, found.fields[theirs], "kubernetes_node", tags)

    def _gauge(self, table: Table, ours: str, stream: str, theirs: str, scale: int = 1) -> None:
        found = self.found[stream]
        self._put(table, ours, found, found.fields[theirs], f"{stream}.{theirs}", scale=scale)

    def _put(
        self, table: Table, ours: str, found: Columns, values: Values, where: str,
        tags: Sequence[Tags] | None = None, scale: int = 1,
    ) -> None:  # fmt: skip
        points = [
            (time, names, value)
            for time, names, value in zip(found.times, tags or found.tags, values, strict=True)
            if value is not None and time >= self.start and names[0]
        ]
        codes = codes_of(
            (time - time % MINUTE for time, _, _ in points),
            (table.numbers[names] for _, names, _ in points),
        )
        whole = integers([value for _, _, value in points], where, scale)
        codes, whole = of_series(table, codes, whole)
        table.put(ours, codes, whole, where)

    def _sum(
        self, table: Table, ours: str, codes: list[int], values: list[float], where: str,
        scale: int = 1,
    ) -> None:  # fmt: skip
        factor = scale if scale > 0 else -1 / scale
        codes, values = believable_parts(table, ours, codes, values, factor)
        sums: dict[int, float] = {}
        for code, value in zip(codes, values, strict=True):
            sums[code] = sums.get(code, 0.0) + value
        whole = integers(list(sums.values()), where, scale)
        codes, whole = of_series(table, list(sums), whole)
        table.put(ours, codes, whole, where)

    def _rate(self, table: Table, ours: str, stream: str, theirs: str, names: int) -> None:
        """Add the rates of a counter, summed over series with the same first ``names`` tags.

        A rate that no machine has is left out, and spoils no sum.
        """
        found = self.found[stream]
        most = bounds_of(table.kind, ours).most
        sums: dict[tuple[int, Tags], float | None] = {}
        for (minute, tags), rate in rates(_present(found, found.fields[theirs])):
            key = (minute, tags[:names])
            if minute >= self.start and rate is not None and rate > most:
                table.refused[reason(table.kind, ours, TOO_LARGE)] += 1
            elif minute >= self.start:
                old = sums.get(key, 0.0)
                sums[key] = None if old is None or rate is None else old + rate
        known = [(key, rate) for key, rate in sums.items() if rate is not None]
        codes = codes_of((key[0] for key, _ in known), (table.numbers[key[1]] for key, _ in known))
        self._sum(table, ours, codes, [rate for _, rate in known], f"{stream}.{theirs}")


def rates(
    points: Iterable[tuple[int, Tags, float]],
) -> Iterable[tuple[tuple[int, Tags], float | None]]:
    """Yield ((minute, series), units per second) from samples of counters, in any order.

    Of several samples in a minute the last one counts. The rate is None where the counter went
    down; nothing is yielded where the minute before has no sample.
    """
    last: dict[tuple[Tags, int], tuple[int, float]] = {}
    for time, tags, value in points:
        key = (tags, time - time % MINUTE)
        if key not in last or last[key] < (time, value):
            last[key] = (time, value)
    for (tags, minute), (time, value) in last.items():
        before = last.get((tags, minute - MINUTE))
        if before is not None:
            change = value - before[1]
            yield (minute, tags), None if change < 0 else change / (time - before[0])


def merged(found: Columns) -> Columns:
    """Return one point for each minute and tags: the average where there were several.

    While one Telegraf is replaced by another, both report the same minute.
    """
    keys = list(zip((t - t % MINUTE for t in found.times), found.tags, strict=True))
    if len(set(keys)) == len(keys):
        return found
    rows: dict[tuple[int, Tags], list[int]] = {}
    for row, key in enumerate(keys):
        rows.setdefault(key, []).append(row)
    fields = {
        name: [_mean([values[row] for row in same]) for same in rows.values()]
        for name, values in found.fields.items()
    }
    return Columns([time for time, _ in rows], [tags for _, tags in rows], fields)


def _mean(values: Sequence[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return sum(present) / len(present) if present else None


def _present(found: Columns, values: Values) -> Iterable[tuple[int, Tags, float]]:
    for time, tags, value in zip(found.times, found.tags, values, strict=True):
        if value is not None:
            yield time, tags, value


def _each(ones: Values, others: Values, make: Callable[[float, float], float]) -> Values:
    """Return ``make`` of each pair; None where either value is None."""
    return [
        None if one is None or other is None else make(one, other)
        for one, other in zip(ones, others, strict=True)
    ]


def _busy_percent(idle: float) -> float:
    """Return the rest of an idle percentage.

    Below 0 only by rounding: a broken counter makes percentages of thousands, above and below
    (influxdata/telegraf#1011, #3342), and what is made of them must not look like a good value.
    """
    return max(100.0 - idle, 0.0) if idle <= _IDLE_MOST else 100.0 - idle
