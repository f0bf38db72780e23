"""Raw points from an InfluxDB 1.x, as Heapster and Telegraf wrote them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from metrics.series.rows import SeriesKey
from metrics.series.windows import MINUTE
from metrics.sources.base import RawAnswer
from metrics.sources.bounds import bounds_of
from metrics.sources.influxdb1.client import InfluxApi
from metrics.sources.influxdb1.queries import (
    MINUTES,
    RAW,
    SAMPLES,
    Series,
    identifier,
    literal,
    measurement,
)
from metrics.sources.influxdb1.responses import Span, read_points
from opscenter.core.errors import BadResponseError, InvalidInputError


async def influxdb_raw(
    api: InfluxApi, key: SeriesKey, field: str, start: int, end: int
) -> RawAnswer:
    """Return the points of one field of one series; see :class:`.base.RawSource`.

    Points of several containers at one time add up, as in stored minutes.
    """
    series = _series(key, field)
    (result,) = await api.ask([_statement(api.database, series, key, start, end)])
    points = read_points(
        result, series, [series.column], Span(start, end, grouped=True), series.measurement
    )
    shift = MINUTE if series.type else 0  # Heapster's times are ends of minutes
    bounds = bounds_of(key.kind, field)
    found: dict[int, float] = {}
    for time, value in zip(points.times, points.values[0], strict=True):
        number = _number(value, series)
        if series.merge == "sum":
            if bounds.why(number, number):
                continue  # one bad container does not spoil the sum
            number += found.get(time - shift, 0.0)
        found[time - shift] = number
    times = sorted(found)
    note = "as Heapster wrote it" if series.type else "as Telegraf wrote it"
    return RawAnswer(times, [found[time] for time in times], _step(times), note)


def _series(key: SeriesKey, field: str) -> Series:
    for series in (*MINUTES, *SAMPLES):
        if (series.kind, series.field) == (key.kind, field):
            return series
    msg = f"field: InfluxDB does not store {field} of a {key.kind} on its own"
    raise InvalidInputError(msg)


def _statement(database: str, series: Series, key: SeriesKey, start: int, end: int) -> str:
    """Return the statement for one series; Telegraf names a node by one of two tags."""
    names = {"node": (key.name,), "filesystem": (key.ns, key.name), "pod": (key.ns, key.name)}
    pairs = list(zip(series.tags, names[key.kind], strict=False))
    if not series.type:
        pairs = [(tag, key.name) for tag in series.tags]
    word = " AND " if series.type else " OR "
    try:
        who = word.join(f"{identifier(tag)} = {literal(name)}" for tag, name in pairs)
    except ValueError as exc:
        raise InvalidInputError(f"name: {exc}") from exc
    span = f"time > {start}s AND time <= {end}s" if series.type else (
        f"time >= {start}s AND time < {end}s"
    )  # fmt: skip
    only = f'"type" = {literal(series.type)} AND ' if series.type else ""
    by = ", ".join(identifier(tag) for tag in series.tags)
    source = measurement(database, series, RAW)
    what = identifier(series.column)
    return f"SELECT {what} FROM {source} WHERE {only}({who}) AND {span} GROUP BY {by}"  # noqa: S608 - all quoted


def _number(value: object, series: Series) -> float:
    if type(value) not in (int, float):
        msg = f"{series.measurement}: {str(value)[:40]!r} is not a number"
        raise BadResponseError(msg, problem="bad_value")
    number = float(str(value))  # a whole number of any length; infinite beyond all bounds
    return number / -series.scale if series.scale < 0 else number * series.scale


def _step(times: Sequence[int]) -> float | None:
    """Return the median distance of points in seconds; None for less than two."""
    gaps = sorted(b - a for a, b in pairwise(times))
    return gaps[len(gaps) // 2] if gaps else None
