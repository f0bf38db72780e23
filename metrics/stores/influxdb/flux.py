"""The few Flux queries of the InfluxDB store, and the reading of their answers.

A query's text consists of this module's own text and of names from the catalogue; everything else
(bucket, cluster, names, times) is bound as a parameter. All filters have the form that InfluxDB
evaluates in its storage: a column of the record compared with one value.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from metrics.series.catalog import Kind
from metrics.series.rows import SeriesKey
from metrics.stores.errors import StoreError
from metrics.stores.influxdb.client import Influx, Param
from metrics.stores.influxdb.names import column_indexes, columns, tag, untag
from metrics.stores.influxdb.rows import Values

LAST_SECOND = 9_000_000_000
"""Later than any requested time; Flux counts nanoseconds in 64 bits."""

Points = dict[SeriesKey, dict[int, Values]]
"""Series -> start of bucket -> values."""


class Query:
    """Builds one query: its text and its parameters."""

    def __init__(self, start: int, end: int) -> None:
        self._conditions: list[str] = []
        self._tail: list[str] = []
        self.params: dict[str, Param] = {
            "start": max(0, min(start, LAST_SECOND)),
            "stop": max(0, min(end, LAST_SECOND)),
        }

    def where(self, column: str, *values: str) -> Query:
        """Keep records whose column is one of ``values``; the values are bound."""
        names = []
        for value in values:
            names.append(f"p{len(self.params)}")
            self.params[names[-1]] = value
        found = " or ".join(f"r.{column} == {name}" for name in names)
        self._conditions.append(f"({found})")
        return self

    def above(self, value: int) -> Query:
        """Keep records with a value above this one."""
        name = f"p{len(self.params)}"
        self.params[name] = value
        self._conditions.append(f"(r._value > {name})")
        return self

    def then(self, step: str) -> Query:
        """Add a step, which must not contain external input."""
        self._tail.append(step)
        return self

    def keep(self, *names: str) -> Query:
        """Return only these columns."""
        return self.then(f"keep(columns: [{', '.join(repr_(name) for name in names)}])")

    def copy(self) -> Query:
        """Return an independent copy."""
        other = Query(0, 0)
        other._conditions, other._tail = list(self._conditions), list(self._tail)
        other.params = dict(self.params)
        return other

    @property
    def flux(self) -> str:
        """Return the query's text."""
        steps = [
            "from(bucket: bucket)",
            "range(start: start, stop: stop)",
            f"filter(fn: (r) => {' and '.join(self._conditions)})",
            *self._tail,
        ]
        return " |> ".join(steps)


def repr_(name: str) -> str:
    """Return one of our own names as a Flux string."""
    return f'"{name}"'


def of_cluster(cluster: UUID, kinds: Sequence[Kind], start: int, end: int) -> Query:
    """Begin a query for a cluster's points of some kinds."""
    return Query(start, end).where("_measurement", *kinds).where("cluster", str(cluster))


def of_series(cluster: UUID, key: SeriesKey, start: int, end: int) -> Query:
    """Begin a query for one series."""
    query = of_cluster(cluster, [key.kind], start, end)
    return query.where("ns", tag(key.ns)).where("name", tag(key.name))


def records(
    influx: Influx, bucket: str, query: Query, text: str = ""
) -> Iterator[tuple[dict[str, int], list[str]]]:
    """Yield the answer's records, each with the indexes of its columns.

    Args:
        influx: the InfluxDB.
        bucket: the bucket's name, the value of ``bucket`` in the query.
        query: the query with its parameters.
        text: text to send instead of the query's own; "" for the query's own.

    Raises:
        StoreError: the query was refused, or failed.
    """
    header: dict[str, int] = {}
    with (
        influx.query(text or query.flux, query.params, bucket) as answer,
        influx.translated(bucket),
    ):
        for record in csv.reader(_lines(answer)):
            if not record:
                header = {}
            elif not header:
                header = {name: at for at, name in enumerate(record)}
            elif "error" in header:
                reason = record[header["error"]]
                msg = f"InfluxDB at {influx.server.url}: the query of {bucket} failed: {reason}"
                raise StoreError(msg)
            else:
                yield header, record


def points(influx: Influx, bucket: str, tier: str, query: Query) -> Points:
    """Return the points that a query finds, as rows of values.

    The query must be over kinds and a cluster, without further steps.
    """
    # One table: InfluxDB takes longer for thousands of tables than for their points.
    query.then("group()").keep("_time", "_value", "_field", "_measurement", "ns", "name")
    found: Points = {}
    times: dict[str, int] = {}
    series: tuple[str, ...] = ()
    rows: dict[int, Values] = {}
    width, index = 0, -1
    for header, record in records(influx, bucket, query):
        kind_at, field_at = header["_measurement"], header["_field"]
        name = (record[kind_at], record[header["ns"]], record[header["name"]], record[field_at])
        if name != series:
            series = name
            kind = _kind(name[0])
            rows = found.setdefault(SeriesKey(kind, untag(name[1]), untag(name[2])), {})
            width = len(columns(kind, tier))
            index = column_indexes(kind, tier).get(name[3], -1)
        if index < 0:
            continue  # a later version's field
        text = record[header["_time"]]
        ts = times.get(text)
        if ts is None:
            ts = times[text] = unix(text)
        row = rows.get(ts)
        if row is None:
            row = rows[ts] = [None] * width
        row[index] = whole(influx, bucket, record[header["_value"]])
    return found


def whole(influx: Influx, bucket: str, text: str) -> int:
    """Return a value, which is an integer unless another program writes into our bucket.

    Raises:
        StoreError: it is not.
    """
    try:
        return int(text)
    except ValueError as exc:
        msg = (
            f"bucket {bucket} of InfluxDB at {influx.server.url} holds {text[:40]!r}, which Ops"
            " Center did not write: something else writes into it"
        )
        raise StoreError(msg) from exc


def unix(text: str) -> int:
    """Return a Flux time as Unix seconds."""
    return round(datetime.fromisoformat(text).timestamp())


def merged(parts: Iterable[Points]) -> Points:
    """Return several buckets' points; of two, the one with the larger n wins, else the first."""
    whole: Points = {}
    for part in parts:
        for key, rows in part.items():
            known = whole.setdefault(key, {})
            for ts, values in rows.items():
                if ts not in known or (values[0] or 0) > (known[ts][0] or 0):
                    known[ts] = values
    return whole


def _kind(name: str) -> Kind:
    return name  # type: ignore[return-value]


def _lines(answer: Any) -> Iterator[str]:
    """Yield the answer's lines with their line ends: a quoted name may contain a line feed."""
    rest = b""
    for block in answer.stream(1 << 16):
        *lines, rest = (rest + block).split(b"\n")
        for each in lines:
            yield each.decode() + "\n"
    if rest:
        yield rest.decode()
