"""A stand-in for an InfluxDB 2.x: it keeps points and applies the filters of the queries to them.

It knows the forms of Flux that the source sends, and refuses any other.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

_STREAM = re.compile(
    r"from\(bucket: bucket\) \|> range\(start: (?P<start>\w+), stop: stop\)"
    r" \|> filter\(fn: \(r\) => (?P<only>.+?)\)"
    r" \|> (?P<aggregate>aggregateWindow|window)\(.*"
    r" \|> keep\(columns: \[(?P<columns>.*?)\]\) \|> group\(\) \|> yield\(name: \"(?P<name>.+)\"\)"
)
_TERM = re.compile(r'r\.(\w+) (==|!=|=~|!~) (?:"([^"]*)"|/(.*?)/(?=[ )]|$))')


@dataclass(frozen=True)
class Point:
    """One point of a measurement; its time in Unix seconds."""

    time: int
    measurement: str
    tags: Mapping[str, str]
    fields: Mapping[str, float]


@dataclass
class FluxStandIn:
    """Answers like the client of a cluster does for a bucket with these points."""

    points: list[Point] = field(default_factory=list)
    server_date: float | None = None

    async def post_text(
        self, path: str, body: Mapping[str, Any], params: Mapping[str, str], *, accept: str
    ) -> str:
        """Return an answer to Flux as CSV."""
        assert (path, accept) == ("/api/v2/query", "application/csv")
        times = {
            option["assignment"]["id"]["name"]: option["assignment"]["init"]["value"]
            for option in body["extern"]["body"]
        }
        answer = io.StringIO()
        for part in body["query"].split("\n"):
            found = _STREAM.fullmatch(part)
            if found is None:
                assert "first()" in part or "last()" in part or "buckets()" in part, part
                continue
            start, stop = (_seconds(times[name]) for name in (found["start"], "stop"))
            inside = [point for point in self.points if start <= point.time < stop]
            _write(answer, found, inside)
        return answer.getvalue()


def _write(answer: io.StringIO, found: re.Match[str], points: Iterable[Point]) -> None:
    columns = [name.strip('"') for name in found["columns"].split(", ")]
    rows = list(_rows(found["only"], points, mean=found["aggregate"] == "aggregateWindow"))
    if not rows:
        return
    out = csv.writer(answer)
    out.writerow(["", "result", "table", *columns])
    for row in rows:
        out.writerow(["", found["name"], 0, *(row.get(column, "") for column in columns)])
    out.writerow([])


def _rows(only: str, points: Iterable[Point], *, mean: bool) -> Iterator[dict[str, Any]]:
    """Yield a row for each series and minute: the mean at its start, or the last at its time."""
    series: dict[tuple[Any, ...], list[tuple[int, str, float]]] = {}
    for point in points:
        for name, value in point.fields.items():
            labels = {**point.tags, "_measurement": point.measurement, "_field": name}
            if _matches(only, labels):
                key = (point.time // 60 * 60, *sorted(point.tags.items()))
                series.setdefault(key, []).append((point.time, name, value))
    for (minute, *tags), samples in series.items():
        row: dict[str, Any] = dict(tags)
        for name in {name for _, name, _ in samples}:
            values = [value for _, other, value in sorted(samples) if other == name]
            row[name] = sum(values) / len(values) if mean else values[-1]
        newest = max(time for time, _, _ in samples)
        yield {"_time": _moment(minute if mean else newest), **row}


def _matches(only: str, labels: Mapping[str, str]) -> bool:
    """Apply a condition: terms joined by "and", and one group joined by "or"."""

    def holds(term: re.Match[str]) -> str:
        name, operator, text, regex = term.groups()
        value = labels.get(name)
        if value is None:
            return "False"
        if operator in ("==", "!="):
            return str((value == text) == (operator == "=="))
        return str((re.search(regex, value) is not None) == (operator == "=~"))

    plain = _TERM.sub(holds, only)
    assert re.fullmatch(r"(True|False|and|or|[() ])+", plain), plain
    return bool(eval(plain, {}))  # noqa: S307 - nothing but truth values, as just checked


def _seconds(moment: str) -> int:
    return int(datetime.fromisoformat(moment).timestamp())


def _moment(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
