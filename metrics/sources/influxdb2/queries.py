"""Flux queries to an InfluxDB 2.x that Telegraf writes to.

The server averages gauges to minutes while it reads; of counters it returns the last value of each
minute, with its own time. Every stream is trimmed to what is needed, with its fields as columns,
which takes a sixth of the bytes.

External input, the bucket and the times, is never part of the text: it is bound as options beside
it, as InfluxDB's own clients do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from agent.own_parts import UNLISTED_TYPES, VIRTUAL_INTERFACES
from opscenter.core.text import iso_utc

# What is left is the node's own, or listed at least; rows are made of it by the same rule.
_IN_MEMORY = f"^({UNLISTED_TYPES})$"
_VIRTUAL = f"^({VIRTUAL_INTERFACES})$"


@dataclass(frozen=True, slots=True)
class Stream:
    """One part of a query, from one measurement.

    Attributes:
        name: the result's name in the answer.
        measurement: Telegraf's measurement.
        fields: the measurement's fields.
        tags: the tags that name the series, as columns.
        aggregate: whether to use the mean of each minute, or its last value.
        only: an additional Flux condition on ``r``; constant.
    """

    name: str
    measurement: str
    fields: tuple[str, ...]
    tags: tuple[str, ...]
    aggregate: Literal["mean", "last"] = "mean"
    only: str = ""


_POD = ("namespace", "pod_name", "node_name")

STREAMS: tuple[Stream, ...] = (
    Stream(
        "node",
        "kubernetes_node",
        (
            "cpu_usage_nanocores",
            "memory_working_set_bytes",
            "memory_available_bytes",
            "fs_used_bytes",
            "fs_capacity_bytes",
            "capacity_cpu_cores",
            "capacity_millicpu_cores",
            "capacity_memory_bytes",
        ),
        ("node_name",),
    ),
    Stream("node_net", "kubernetes_node", ("network_rx_bytes", "network_tx_bytes"),
           ("node_name",), "last"),
    Stream("ready", "kubernetes_node", ("status_condition",), ("node_name",), "last",
           'r.condition == "Ready"'),
    Stream(
        "container",
        "kubernetes_pod_container",
        (
            "cpu_usage_nanocores",
            "memory_working_set_bytes",
            "memory_rss_bytes",
            "rootfs_used_bytes",
            "logsfs_used_bytes",
        ),
        (*_POD, "container_name"),
    ),
    Stream("pod_net", "kubernetes_pod_network", ("rx_bytes", "tx_bytes"), _POD, "last"),
    Stream("restarts", "kubernetes_pod_container", ("restarts_total",),
           (*_POD, "container_name"), "last"),
    Stream("cpu", "cpu", ("usage_idle", "usage_iowait"), ("host",), "mean",
           'r.cpu == "cpu-total"'),
    Stream("mem", "mem", ("total", "available"), ("host",)),
    Stream("system", "system", ("load1", "uptime", "n_cpus"), ("host",)),
    Stream("disk", "disk", ("used", "free", "total", "inodes_total", "inodes_free"),
           ("host", "path", "device", "fstype", "mode"), "mean", f"r.fstype !~ /{_IN_MEMORY}/"),
    Stream("net", "net", ("bytes_recv", "bytes_sent"), ("host", "interface"), "last",
           f"r.interface !~ /{_VIRTUAL}/"),
)  # fmt: skip
"""Telegraf's inputs ``kubernetes``, ``kube_inventory``, and those for hosts."""

EDGES = {
    "kubernetes_node": "memory_working_set_bytes",
    "kubernetes_pod_container": "memory_working_set_bytes",
    "cpu": "usage_idle",
}
"""Measurements, with one field each, that show where data begins and ends."""


def minutes_query(
    bucket: str, start: int, end: int, *, before: int, now: int | None = None
) -> dict[str, Any]:
    """Return the body of a request for the minutes of ``[start, end)``.

    Args:
        bucket: the bucket's name.
        start: start of the range in Unix seconds, minute aligned.
        end: end of the range in Unix seconds, exclusive.
        before: seconds before ``start`` from which counters are read, for the first minute's rate.
        now: current Unix time in seconds, to include :func:`edges_query`; None to omit it.
    """
    parts = [_minutes(stream) for stream in STREAMS] + ([] if now is None else _edges())
    times = {"start": start, "stop": end, "earlier": start - before, "now_": now or 0}
    moments = {name: _moment(seconds) for name, seconds in times.items()}
    return _body("\n".join(parts), {"bucket": _text(bucket), **moments})


def samples_query(
    bucket: str, stream: Stream, named: Mapping[str, str], start: int, end: int
) -> dict[str, Any]:
    """Return the body of a request for the samples of one series in ``[start, end)``.

    Args:
        bucket: the bucket's name.
        stream: the stream, whose fields and tags are the columns of the answer.
        named: the series' tags; quoted here, because only constants of the query use the index.
        start: start of the range in Unix seconds.
        end: end of the range in Unix seconds, exclusive.
    """
    who = "".join(f" and r.{tag} == {_quoted(value)}" for tag, value in named.items())
    fields = " or ".join(f"r._field == {_quoted(field)}" for field in stream.fields)
    columns = ", ".join(map(_quoted, ("_time", *stream.tags, *stream.fields)))
    text = (
        "from(bucket: bucket) |> range(start: start, stop: stop)"
        f" |> filter(fn: (r) => r._measurement == {_quoted(stream.measurement)}{who}"
        f" and ({fields}))"
        ' |> pivot(rowKey: ["_time"], columnKey: ["_field"], valueColumn: "_value")'
        f" |> keep(columns: [{columns}]) |> group() |> yield(name: {_quoted(stream.name)})"
    )
    times = {"start": _moment(start), "stop": _moment(end)}
    return _body(text, {"bucket": _text(bucket), **times})


def edges_query(bucket: str, now: int) -> dict[str, Any]:
    """Return the body of a request for the oldest and newest time, and the bucket itself.

    Args:
        bucket: the bucket's name.
        now: Unix time in seconds before which data counts.
    """
    return _body("\n".join(_edges()), {"bucket": _text(bucket), "now_": _moment(now)})


def measurements_query(bucket: str) -> dict[str, Any]:
    """Return the body of a request for the names of a bucket's measurements of the last 30 days."""
    text = 'import "influxdata/influxdb/schema"\nschema.measurements(bucket: bucket)'
    return _body(text, {"bucket": _text(bucket)})


def _edges() -> list[str]:
    parts = [
        'buckets() |> filter(fn: (r) => r.name == bucket) |> keep(columns: ["name", '
        '"retentionPeriod"]) |> yield(name: "bucket")'
    ]
    for measurement, column in EDGES.items():
        where = f"r._measurement == {_quoted(measurement)} and r._field == {_quoted(column)}"
        for function, pick in (("first", "min"), ("last", "max")):
            name = _quoted(f"{function} {measurement}")
            parts.append(
                "from(bucket: bucket) |> range(start: 0, stop: now_)"
                f" |> filter(fn: (r) => {where}) |> {function}()"
                f' |> keep(columns: ["_time"]) |> group() |> {pick}(column: "_time")'
                f" |> yield(name: {name})"
            )
    return parts


def _minutes(stream: Stream) -> str:
    start = "start" if stream.aggregate == "mean" else "earlier"
    fields = " or ".join(f"r._field == {_quoted(field)}" for field in stream.fields)
    more = f" and {stream.only}" if stream.only else ""
    columns = ", ".join(map(_quoted, ("_time", *stream.tags, *stream.fields)))
    aggregate = 'aggregateWindow(every: 1m, fn: mean, createEmpty: false, timeSrc: "_start")'
    if stream.aggregate == "last":
        aggregate = 'window(every: 1m) |> last() |> drop(columns: ["_start", "_stop"])'
    return (
        f"from(bucket: bucket) |> range(start: {start}, stop: stop)"
        f" |> filter(fn: (r) => r._measurement == {_quoted(stream.measurement)}{more}"
        f" and ({fields}))"
        f" |> {aggregate}"
        ' |> pivot(rowKey: ["_time"], columnKey: ["_field"], valueColumn: "_value")'
        f" |> keep(columns: [{columns}]) |> group() |> yield(name: {_quoted(stream.name)})"
    )


def _body(text: str, options: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return a request's body: the query, and its options as a syntax tree beside it."""
    bound = [
        {
            "type": "OptionStatement",
            "assignment": {
                "type": "VariableAssignment",
                "id": {"type": "Identifier", "name": name},
                "init": value,
            },
        }
        for name, value in options.items()
    ]
    return {
        "type": "flux",
        "query": text,
        "extern": {"type": "File", "package": None, "imports": None, "body": bound},
        "dialect": {"header": True, "annotations": [], "delimiter": ","},
    }


def _text(value: str) -> dict[str, Any]:
    return {"type": "StringLiteral", "value": value}


def _moment(seconds: int) -> dict[str, Any]:
    moment = iso_utc(seconds)
    return {"type": "DateTimeLiteral", "value": moment}


def _quoted(text: str) -> str:
    """Quote a text for Flux: quotes, backslashes, control characters and interpolations.

    Source: "String literals" of the Flux specification; ``${`` begins an expression.
    """
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("${", "\\${")
    safe = "".join(c if c.isprintable() else _hexadecimal(c) for c in escaped)
    return f'"{safe}"'


def _hexadecimal(char: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in char.encode("utf-8", "replace"))
