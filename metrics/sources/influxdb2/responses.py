"""The answers of an InfluxDB 2.x to Flux: CSV with a header before each table. Pure.

Everything in an answer is untrusted until checked. One error refuses the whole answer.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from io import StringIO

from metrics.sources.influxdb2.queries import Stream
from metrics.sources.row_builder import Tags
from metrics.sources.validation import MAX_MOMENT
from opscenter.core.errors import BadResponseError
from opscenter.core.text import one_line

_ERROR = {"error", "reference"}


@dataclass(slots=True)
class Columns:
    """The points of one stream: equally long columns.

    Attributes:
        times: each point's time in Unix seconds.
        tags: each point's tags, in the stream's order; "" where it has none.
        fields: numbers by field name; None where a point has none.
    """

    times: list[int] = field(default_factory=list)
    tags: list[Tags] = field(default_factory=list)
    fields: dict[str, list[float | None]] = field(default_factory=dict)


class _Moments(dict[str, int]):
    """Unix seconds by RFC 3339 text; an answer has few times and many points."""

    def __missing__(self, text: str) -> int:
        try:
            moment = datetime.fromisoformat(_six_digits(text))
            seconds = int(moment.timestamp()) if moment.tzinfo is not None else -1
        except ValueError:
            seconds = -1
        if not 0 <= seconds <= MAX_MOMENT:
            msg = f"{one_line(text, 40)!r} is not a time"
            raise BadResponseError(msg, problem="bad_value")
        self[text] = seconds
        return seconds


def read_tables(text: str) -> dict[str, list[tuple[list[str], list[list[str]]]]]:
    """Split an answer into (header, rows) of each table, by the name of the result.

    Raises:
        BadResponseError: it is not such CSV, an error of the server, or cut off.
    """
    tables: dict[str, list[tuple[list[str], list[list[str]]]]] = {}
    for header, rows in _blocks(text):
        if set(header) >= _ERROR:
            reason = one_line(" ".join(rows[0]) if rows else "no reason given", 300)
            msg = f"InfluxDB aborted the answer: {reason}"
            raise BadResponseError(msg, problem="cut_off" if tables else "query_refused")
        if header[:3] != ["", "result", "table"]:
            msg = f"not a table of InfluxDB: {one_line(','.join(header), 100)!r}"
            raise BadResponseError(msg, problem="not_json")
        if any(len(row) != len(header) for row in rows):
            msg = f"a row does not have {len(header)} columns: the answer is incomplete"
            raise BadResponseError(msg, problem="cut_off")
        for row in rows[:1]:
            if any(other[1] != row[1] for other in rows):
                msg = "rows of two results in one table"
                raise BadResponseError(msg, problem="bad_value")
            tables.setdefault(row[1], []).append((header, rows))
    if tables and not text.endswith(("\n\r\n", "\n\n")):
        msg = "no blank line after the last table: the answer is incomplete"
        raise BadResponseError(msg, problem="cut_off")
    return tables


def read_stream(tables: Sequence[tuple[list[str], list[list[str]]]], stream: Stream) -> Columns:
    """Return the points of one stream.

    Raises:
        BadResponseError: a column is missing or has another type.
    """
    read = Columns(fields={name: [] for name in stream.fields})
    moments = _Moments()
    for header, rows in tables:
        columns = dict(zip(header, zip(*rows, strict=True), strict=True))
        if "_time" not in columns:
            msg = f"{stream.measurement}: the points have no time"
            raise BadResponseError(msg, problem="bad_value")
        read.times += map(moments.__getitem__, columns["_time"])
        absent = ("",) * len(rows)
        names = [columns.get(tag, absent) for tag in stream.tags]
        read.tags += zip(*names, strict=True)
        for name, values in read.fields.items():
            where = f"{stream.measurement}.{name}"
            values.extend(_numbers(columns.get(name, absent), where))
    return read


def read_moment(tables: Sequence[tuple[list[str], list[list[str]]]]) -> int | None:
    """Return the only time of a result in Unix seconds; None if there is none.

    Raises:
        BadResponseError: it is not a time.
    """
    for header, rows in tables:
        for row in rows:
            text = dict(zip(header, row, strict=True)).get("_time", "")
            return _Moments()[text]
    return None


def read_column(tables: Sequence[tuple[list[str], list[list[str]]]], name: str) -> list[str]:
    """Return one column of a result, over all its tables."""
    return [
        dict(zip(header, row, strict=True)).get(name, "") for header, rows in tables for row in rows
    ]


def _blocks(text: str) -> Iterator[tuple[list[str], list[list[str]]]]:
    """Yield the parts between blank lines: a header and its rows."""
    header: list[str] = []
    rows: list[list[str]] = []
    try:
        for row in csv.reader(StringIO(text, newline="")):
            if not row:
                if header:
                    yield header, rows
                header, rows = [], []
            elif header:
                rows.append(row)
            else:
                header = row
    except csv.Error as exc:
        msg = f"not CSV of InfluxDB: {one_line(str(exc), 120)}"
        raise BadResponseError(msg, problem="not_json") from exc
    if header:
        yield header, rows


def _numbers(column: Sequence[str], where: str) -> list[float | None]:
    try:
        if "" not in column:
            return list(map(float, column))
        return [float(text) if text else None for text in column]
    except ValueError as exc:
        msg = f"{where}: {one_line(str(exc), 80)}"
        raise BadResponseError(msg, problem="bad_value") from exc


def _six_digits(text: str) -> str:
    """Cut nanoseconds to the microseconds that Python reads."""
    head, dot, rest = text.partition(".")
    if not dot:
        return text
    digits = rest.rstrip("Z")
    return f"{head}.{digits[:6].ljust(6, '0')}+00:00" if rest.endswith("Z") else text
