"""Queries to an InfluxDB 1.x that Heapster and Telegraf write to, as in Gravity 5.

Heapster writes one measurement per metric, with one field ``value``, every minute; its times are
the ends of the minutes that they describe. Continuous queries roll some of them up to 5 minutes and
to an hour; those times are starts. Telegraf writes its samples every 20 s.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from metrics.series.catalog import Kind

TAGS: dict[Kind, tuple[str, ...]] = {
    "node": ("nodename",),
    "filesystem": ("nodename", "resource_id"),
    "pod": ("namespace_name", "pod_name", "nodename"),
}
"""Heapster's tags in the order of :data:`metrics.sources.row_builder.Tags`."""


@dataclass(frozen=True, slots=True)
class Policy:
    """A retention policy and its values.

    Attributes:
        name: as the server reports it; "" for the database's default policy.
        step: width of its values in seconds.
        tier: the tier that they are written to.
        suffix: suffix of the measurements' names.
    """

    name: str
    step: int
    tier: str
    suffix: str


RAW = Policy("", 60, "1m", "")
ROLLUPS = (Policy("medium", 300, "10m", "/medium"), Policy("long", 3600, "1h", "/long"))
"""The rollups of Gravity, finest first."""


@dataclass(frozen=True, slots=True)
class Series:
    """One field of the catalogue, and where it is stored.

    Attributes:
        kind: the series' kind.
        field: the field, a name of the catalogue.
        measurement: the measurement, without a rollup's suffix.
        type: Heapster's tag ``type``; "" for Telegraf's measurements.
        column: InfluxDB's field.
        tags: the tags that name the series.
        scale: factor of the values; a divisor if negative.
        merge: how to treat several points of a series in one minute: "one" if only one is allowed,
            "sum" if they add up, "samples" if they are samples of the same value.
    """

    kind: Kind
    field: str
    measurement: str
    type: str = ""
    column: str = "value"
    tags: tuple[str, ...] = ()
    scale: int = 1
    merge: Literal["one", "sum", "samples"] = "one"


def _heapster(kind: Kind, field: str, measurement: str, scale: int = 1) -> Series:
    return Series(kind, field, measurement, "pod" if kind == "pod" else "node", scale=scale,
                  tags=TAGS[kind])  # fmt: skip


def _of_containers(field: str, measurement: str) -> Series:
    return Series("pod", field, measurement, "pod_container", tags=TAGS["pod"], merge="sum")


MINUTES: tuple[Series, ...] = (
    _heapster("node", "cpu_mc", "cpu/usage_rate"),
    _heapster("node", "cpu_cap_mc", "cpu/node_capacity"),
    _heapster("node", "mem_ws", "memory/working_set"),
    _heapster("node", "mem_cap", "memory/node_capacity"),
    _heapster("node", "net_rx_bps", "network/rx_rate"),
    _heapster("node", "net_tx_bps", "network/tx_rate"),
    _heapster("node", "uptime_s", "uptime", -1000),
    _heapster("filesystem", "used", "filesystem/usage"),
    _heapster("filesystem", "cap", "filesystem/limit"),
    _heapster("filesystem", "inodes_total", "filesystem/inodes"),
    _heapster("filesystem", "inodes_free", "filesystem/inodes_free"),
    _heapster("pod", "cpu_mc", "cpu/usage_rate"),
    _heapster("pod", "mem_ws", "memory/working_set"),
    _heapster("pod", "mem_rss", "memory/rss"),
    _heapster("pod", "net_rx_bps", "network/rx_rate"),
    _heapster("pod", "net_tx_bps", "network/tx_rate"),
    _of_containers("fs_used", "filesystem/usage"),
    _of_containers("restarts", "restart_count"),
)
"""Heapster's fields of each minute."""

SAMPLES: tuple[Series, ...] = (
    Series("node", "load1_m", "system", "", "load1", ("nodename", "host"), 1000, "samples"),
    Series("node", "ready", "satellite_k8s_node_ready", "", "gauge", ("node", "nodename"), 1,
           "samples"),
)  # fmt: skip
"""Telegraf's fields; the first present one of the two tags names the node."""

_RATES = ("cpu_mc", "mem_ws", "net_rx_bps", "net_tx_bps")
_USAGES = ("used", "fs_used")
COARSE: dict[str, tuple[Series, ...]] = {
    "medium": tuple(s for s in MINUTES if s.field in (*_RATES, *_USAGES)),
    "long": tuple(s for s in MINUTES if s.field in (*_RATES, *_USAGES) and s.field != "mem_ws"),
}
"""The fields of Gravity's rollups. Of ``filesystem/usage`` they keep the highest value only."""


def columns_of(series: Series, policy: Policy) -> tuple[str, ...]:
    """Return InfluxDB's fields: the value; for a rollup its mean, if stored, and its highest."""
    if policy.step == RAW.step:
        return (series.column,)
    return ("value",) if series.field in _USAGES else ("value_mean", "value_max")


def select(
    database: str, series: Series, policy: Policy, start: int, end: int, *, grouped: bool
) -> str:
    """Return the statement for the values that describe ``[start, end)``.

    Heapster's times are ends of minutes, so its range excludes ``start`` and includes ``end``;
    rollups and Telegraf include ``start`` and exclude ``end``.

    Args:
        database: the database's name.
        series: the series to select.
        policy: the policy that has the values.
        start: start of the range in Unix seconds.
        end: end of the range in Unix seconds, exclusive.
        grouped: whether to name each series once instead of in each point: shorter if there are
            many points per series.
    """
    ends = series.type and policy.step == RAW.step
    span = f"time > {start}s AND time <= {end}s" if ends else f"time >= {start}s AND time < {end}s"
    only = f'"type" = {literal(series.type)} AND ' if series.type else ""
    wanted = [identifier(column) for column in columns_of(series, policy)]
    tags = [identifier(tag) for tag in series.tags]
    by = f" GROUP BY {', '.join(tags)}" if grouped else ""
    what = ", ".join(wanted if grouped else [*wanted, *tags])
    source = measurement(database, series, policy)
    return f"SELECT {what} FROM {source} WHERE {only}{span}{by}"  # noqa: S608 - all quoted


def edge(database: str, policy: Policy, *, newest: bool) -> str:
    """Return the statement for the oldest or newest node value of a policy."""
    series = MINUTES[0]
    column = identifier(columns_of(series, policy)[0])
    source = measurement(database, series, policy)
    order = f"ORDER BY time {'DESC' if newest else 'ASC'} LIMIT 1"
    return f"SELECT {column} FROM {source} WHERE \"type\" = 'node' {order}"  # noqa: S608 - quoted


def measurement(database: str, series: Series, policy: Policy) -> str:
    """Return a series' measurement in full: ``"database"."policy"."measurement"``."""
    where = f".{identifier(policy.name)}." if policy.name else ".."
    return identifier(database) + where + identifier(series.measurement + policy.suffix)


def identifier(name: str) -> str:
    """Quote a name for InfluxQL.

    Raises:
        ValueError: if it is empty or has control characters, which InfluxQL cannot quote.
    """
    return _quoted(name, '"')


def literal(text: str) -> str:
    """Quote a text for InfluxQL.

    Raises:
        ValueError: if it is empty or has control characters, which InfluxQL cannot quote.
    """
    return _quoted(text, "'")


def _quoted(text: str, quote: str) -> str:
    if not text or any(ord(c) < 0x20 or ord(c) == 0x7F for c in text):
        msg = f"{text!r} cannot be named in InfluxQL: it is empty or has control characters"
        raise ValueError(msg)
    escaped = text.replace("\\", "\\\\").replace(quote, f"\\{quote}")
    return f"{quote}{escaped}{quote}"
