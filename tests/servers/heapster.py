"""A cluster as Heapster and Telegraf write it, with values that are known without asking.

Every value is a function of its measurement, its series and its minute. What a source must make of
it is computed here from the same functions, by another way than the source's.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from math import floor

from metrics.series.catalog import FIELD_NAMES
from metrics.series.rows import Cell, SeriesKey
from tests.servers.influxdb import InfluxServer

NODES = ("10.0.0.1", "10.0.0.2")
DISKS = ("/dev/sda1", "/dev/mapper/data")
PODS = (
    ("kube-system", "coredns-5d8f7c6b9d-x2x4q", "10.0.0.1"),
    ("default", 'we"ird\\ name', "10.0.0.1"),
    ("default", "db-0", "10.0.0.2"),
)
CONTAINERS = ("main", "side-car")
_NODE = {
    "cpu_mc": "cpu/usage_rate",
    "cpu_cap_mc": "cpu/node_capacity",
    "mem_ws": "memory/working_set",
    "mem_cap": "memory/node_capacity",
    "net_rx_bps": "network/rx_rate",
    "net_tx_bps": "network/tx_rate",
    "uptime_s": "uptime",
}
_FILESYSTEM = {
    "used": "filesystem/usage",
    "cap": "filesystem/limit",
    "inodes_total": "filesystem/inodes",
    "inodes_free": "filesystem/inodes_free",
}
_POD = {
    "cpu_mc": "cpu/usage_rate",
    "mem_ws": "memory/working_set",
    "mem_rss": "memory/rss",
    "net_rx_bps": "network/rx_rate",
    "net_tx_bps": "network/tx_rate",
}
_WHOLES = frozenset(
    {"cpu/node_capacity", "memory/node_capacity", "filesystem/limit", "filesystem/inodes"}
)
_FLOATS = ("network/rx_rate", "network/tx_rate", "cpu/node_capacity")
_ROLLED = {
    "medium": ("cpu/usage_rate", "memory/working_set", "network/rx_rate", "network/tx_rate"),
    "long": ("cpu/usage_rate", "network/rx_rate", "network/tx_rate"),
}


def value(measurement: str, *names: object) -> float:
    """Return the value of a series' minute; the last of ``names`` is the minute's end."""
    end = names[-1]
    assert isinstance(end, int)
    number = _base(measurement, names[:-1]) + (end // 60 * 7919) % 4_096
    if measurement in _WHOLES:
        number += 200_000  # more than any part of it
    return number + 0.25 * (end // 60 % 4) if measurement in _FLOATS else number


@functools.cache
def _base(measurement: str, names: tuple[object, ...]) -> int:
    return sum(map(ord, measurement + "".join(map(str, names)))) * 37 % 100_000


@dataclass
class Heapster:
    """One database that is written to."""

    server: InfluxServer
    database: str

    def create(self, *, rollups: bool = True) -> None:
        """Make the database with Gravity's retention policies."""
        name = self.database
        self.server.query(f'CREATE DATABASE "{name}" WITH DURATION 24h NAME "default"')
        if rollups:
            for policy, duration in (("medium", "4w"), ("long", "52w")):
                self.server.query(
                    f'CREATE RETENTION POLICY "{policy}" ON "{name}" '
                    f"DURATION {duration} REPLICATION 1"
                )

    def write(self, start: int, end: int) -> None:
        """Write what describes ``[start, end)``."""
        lines = [line for minute in range(start, end, 60) for line in self.lines(minute + 60)]
        self.server.write(self.database, lines)

    def lines(self, end: int) -> Iterator[str]:
        """Return the points of the minute that ends at ``end``."""
        common = "cluster_name=default,labels=app:a\\,tier:b"
        for node in NODES:
            tags = f"type=node,nodename={node},{common}"
            for measurement in _NODE.values():
                yield _line(measurement, tags, value(measurement, node, end), end)
            for measurement in _FILESYSTEM.values():
                for disk in DISKS:
                    number = value(measurement, node, disk, end)
                    yield _line(measurement, f"{tags},resource_id={disk}", number, end)
                yield _line(measurement, f"{tags},resource_id=tmpfs", 5, end)
        for ns, pod, node in PODS:
            named = f"{_pod_tags(ns, pod, node)},{common}"
            for measurement in _POD.values():
                yield _line(measurement, f"type=pod,{named}", value(measurement, ns, pod, end), end)
            for container in CONTAINERS:
                tags = f"type=pod_container,container_name={container},{named}"
                number = value("restart_count", ns, pod, container, end)
                yield _line("restart_count", tags, number, end)
                yield _line("cpu/usage_rate", tags, 11, end)  # of containers: not asked for
                for part in ("/", "logs"):
                    number = value("filesystem/usage", ns, pod, container, part, end)
                    yield _line("filesystem/usage", f"{tags},resource_id={part}", number, end)

    def roll_up(self, start: int, end: int) -> None:
        """Do what Gravity's continuous queries do."""
        name = self.database
        for policy, step in (("medium", "5m"), ("long", "1h")):
            selects = [(m, "max(value) AS value_max, mean(value) AS value_mean")
                       for m in _ROLLED[policy]]  # fmt: skip
            for measurement, what in [*selects, ("filesystem/usage", "max(value) AS value")]:
                self.server.query(  # all names are this file's
                    f'SELECT {what} INTO "{name}"."{policy}"."{measurement}/{policy}" '  # noqa: S608
                    f'FROM "{name}"."default"."{measurement}" '
                    f"WHERE time >= {start}s AND time < {end}s GROUP BY *, time({step})"
                )

    def write_rollups(self, policy: str, start: int, end: int) -> None:
        """Write what the continuous queries would have written of ``[start, end)``."""
        step = 300 if policy == "medium" else 3600
        self.server.write(
            self.database,
            (line for at in range(start, end, step) for line in self._rollups(policy, at, step)),
            policy,
        )

    def _rollups(self, policy: str, at: int, step: int) -> Iterator[str]:
        times = range(at, at + step, 60)
        nodes = [(f"type=node,nodename={node}", (node,)) for node in NODES]
        pods = [(f"type=pod,{_pod_tags(ns, pod, node)}", (ns, pod)) for ns, pod, node in PODS]
        for tags, names in (*nodes, *pods):
            for measurement in _ROLLED[policy]:
                points = [value(measurement, *names, t) for t in times]
                mean = sum(points) / len(points)
                yield (
                    f"{measurement}/{policy},{tags} value_max={float(max(points))},"
                    f"value_mean={mean!r} {at}"
                )
        disks = [(f"type=node,nodename={n},resource_id={d}", (n, d)) for n in NODES for d in DISKS]
        parts = [
            (
                f"type=pod_container,container_name={c},{_pod_tags(ns, pod, node)},resource_id={p}",
                (ns, pod, c, p),
            )
            for ns, pod, node in PODS
            for c in CONTAINERS
            for p in ("/", "logs")
        ]
        for tags, names in (*disks, *parts):
            highest = max(value("filesystem/usage", *names, t) for t in times)
            yield f"filesystem/usage/{policy},{tags} value={highest}i {at}"

    def expire(self, policy: str, before: int) -> None:
        """Drop shards as the server does once they are older than the policy's duration."""
        limit = datetime.fromtimestamp(before, UTC)
        for series in self.server.query("SHOW SHARDS")[0]["series"]:
            for row in series.get("values", ()):
                shard = dict(zip(series["columns"], row, strict=True))
                ended = datetime.fromisoformat(shard["end_time"])
                of_policy = (shard["database"], shard["retention_policy"])
                if of_policy == (self.database, policy) and ended <= limit:
                    self.server.query(f"DROP SHARD {shard['id']}")

    def forget(self, before: int) -> None:
        """Delete the minutes that end at ``before`` or earlier, and no roll-up of them."""
        for name in {*_NODE.values(), *_FILESYSTEM.values(), *_POD.values(), "restart_count"}:
            self.server.query(f'DELETE FROM "{name}" WHERE time <= {before}s', self.database)  # noqa: S608


def expected_minutes(start: int, end: int) -> dict[tuple[int, SeriesKey], tuple[Cell | None, ...]]:
    """Return every row that a source must give for ``[start, end)``."""
    rows: dict[tuple[int, SeriesKey], dict[str, float]] = {}
    for minute in range(start, end, 60):
        t = minute + 60
        for node in NODES:
            row = {field: value(m, node, t) for field, m in _NODE.items()}
            row["uptime_s"] = row["uptime_s"] / 1000
            row["pods"] = sum(1 for pod in PODS if pod[2] == node)
            for disk in DISKS:
                one = {field: value(m, node, disk, t) for field, m in _FILESYSTEM.items()}
                rows[minute, SeriesKey("filesystem", node, disk)] = one
                for ours, part in (("fs_used", "used"), ("fs_cap", "cap"),
                                   ("inodes_total", "inodes_total"),
                                   ("inodes_free", "inodes_free")):  # fmt: skip
                    row[ours] = row.get(ours, 0) + one[part]
            rows[minute, SeriesKey("node", "", node)] = row
        for ns, pod, _ in PODS:
            row = {field: value(m, ns, pod, t) for field, m in _POD.items()}
            row["restarts"] = sum(value("restart_count", ns, pod, c, t) for c in CONTAINERS)
            row["fs_used"] = sum(
                value("filesystem/usage", ns, pod, c, part, t)
                for c in CONTAINERS
                for part in ("/", "logs")
            )
            rows[minute, SeriesKey("pod", ns, pod)] = row
    return {
        place: tuple(_minute_cell(row.get(name)) for name in FIELD_NAMES[place[1].kind])
        for place, row in rows.items()
    }


def expected_rollups(
    policy: str, start: int, end: int
) -> dict[tuple[int, SeriesKey], tuple[Cell | None, ...]]:
    """Return every bucket that a source must give for ``[start, end)`` of a policy."""
    step, width = (300, 600) if policy == "medium" else (3600, 3600)
    rows = {}
    for bucket in range(start, end, width):
        for node in NODES:
            key = SeriesKey("node", "", node)
            cells = _rolled(_NODE, policy, (node,), bucket, width, step)
            parts = [[(node, disk)] for disk in DISKS]
            disks = [_highest(part, bucket, width, step) for part in parts]
            for disk, cell in zip(DISKS, disks, strict=True):
                filesystem = SeriesKey("filesystem", node, disk)
                rows[bucket, filesystem] = _row(filesystem, {"used": cell})
            cells["fs_used"] = _highest([(node, disk) for disk in DISKS], bucket, width, step)
            rows[bucket, key] = _row(key, cells)
        for ns, pod, _ in PODS:
            key = SeriesKey("pod", ns, pod)
            cells = _rolled(_POD, policy, (ns, pod), bucket, width, step)
            names = [(ns, pod, c, part) for c in CONTAINERS for part in ("/", "logs")]
            cells["fs_used"] = _highest(names, bucket, width, step)
            rows[bucket, key] = _row(key, cells)
    return rows


def _rolled(fields, policy, names, bucket, width, step) -> dict[str, Cell]:
    cells = {}
    for field, measurement in fields.items():
        if measurement not in _ROLLED[policy]:
            continue
        total, highs = 0, []
        for begin in range(bucket, bucket + width, step):
            points = [value(measurement, *names, t) for t in range(begin, begin + step, 60)]
            total += floor(sum(points) / len(points) * (step // 60) + 0.5)
            highs.append(floor(max(points) + 0.5))
        cells[field] = Cell(width // 60, total, None, max(highs))
    return cells


def _highest(parts, bucket, width, step) -> Cell:
    sums = []
    for begin in range(bucket, bucket + width, step):
        times = range(begin, begin + step, 60)
        sums.append(sum(max(value("filesystem/usage", *one, t) for t in times) for one in parts))
    return Cell(width // 60, sum(step // 60 * int(s) for s in sums), None, int(max(sums)))


def _row(key: SeriesKey, cells: dict[str, Cell]) -> tuple[Cell | None, ...]:
    return tuple(cells.get(name) for name in FIELD_NAMES[key.kind])


def _minute_cell(number: float | None) -> Cell | None:
    if number is None:
        return None
    whole = floor(number + 0.5)
    return Cell(1, whole, whole, whole)


def _pod_tags(ns: str, pod: str, node: str) -> str:
    escaped = pod.replace(" ", "\\ ")
    return f"namespace_name={ns},pod_name={escaped},nodename={node}"


def _line(measurement: str, tags: str, number: float, end: int) -> str:
    kind = "" if measurement in _FLOATS else "i"
    return f"{measurement},{tags} value={number}{kind} {end}"
