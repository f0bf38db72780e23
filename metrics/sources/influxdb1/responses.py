"""The answers of an InfluxDB 1.x, checked and split by statement. Pure.

Everything in an answer is untrusted until checked. One error refuses the whole answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from operator import le
from typing import Any

from metrics.series.windows import MINUTE
from metrics.sources.influxdb1.queries import Series
from metrics.sources.row_builder import (
    MAX_SERIES,
    Table,
    Tags,
    believable_parts,
    codes_of,
    integers,
    of_series,
    sampled_cells,
    summed,
)
from metrics.sources.validation import MAX_MOMENT, clean_text, json_list, json_object
from opscenter.core.errors import BadResponseError, Problem, ServiceUnavailableError
from opscenter.core.text import one_line

NOT_EXECUTED = "not executed"
_DURATION = re.compile(r"(?:(\d{1,9})h)?(?:(\d{1,9})m)?(?:(\d{1,9}(?:\.\d{1,9})?)s)?")
_REFUSALS: tuple[tuple[str, Problem], ...] = (
    ("database not found", "database_missing"),
    ("retention policy not found", "not_found"),
    ("not authorized", "forbidden"),
    ("limit exceeded", "too_large"),  # max-select-series, max-select-point, max-select-buckets
)
_UNAVAILABLE = ("timeout", "interrupted", "max-concurrent-queries", "engine is closed")
_TEXT = ({str}, {str, type(None)}, {type(None)})


@dataclass(frozen=True, slots=True)
class RetentionPolicy:
    """One policy of a database, as the server reports it.

    Attributes:
        name: the policy's name.
        seconds: how long it keeps values, in seconds; None for forever.
        default: whether it is the database's default.
    """

    name: str
    seconds: int | None
    default: bool


@dataclass(frozen=True, slots=True)
class Span:
    """The requested range, to check an answer's times against.

    Attributes:
        start: start of the described range in Unix seconds.
        end: end of the range in Unix seconds, exclusive.
        grouped: whether each series is named once, not in every point.
    """

    start: int
    end: int
    grouped: bool


def results_of(raw: object, count: int) -> list[Any]:
    """Return the parts of an answer, one per statement, in order.

    Args:
        raw: the parsed JSON, unchecked.
        count: number of statements that were sent, >= 1.

    Raises:
        BadResponseError: it is not from InfluxDB; a statement was refused, or cut by a limit
            of the server (``too_large``), or its part is missing or said to be incomplete
            (``cut_off``).
        ServiceUnavailableError: the server is temporarily unable to answer.
    """
    answer = json_object(raw, "the answer")
    if "error" in answer:
        raise refusal(answer["error"])
    _check_messages(answer.get("messages"))
    results = json_list(answer.get("results"), "results")
    for position, result in enumerate(results):
        part = json_object(result, f"results[{position}]")
        if part.get("statement_id", position) != position:
            other = one_line(repr(part["statement_id"]), 40)
            msg = f"results[{position}] is of statement {other}"
            raise BadResponseError(msg, problem="bad_value")
        if "error" in part:
            raise refusal(part["error"])
        if part.get("partial") or any(
            json_object(series, "series").get("partial") for series in _series(part)
        ):
            msg = "the server cuts answers of this length (max-row-limit)"
            raise BadResponseError(msg, problem="too_large")
        _check_messages(part.get("messages"))
    if len(results) != count:
        msg = f"{len(results)} results for {count} statements: the answer is incomplete"
        raise BadResponseError(msg, problem="cut_off")
    return results


def _check_messages(messages: object) -> None:
    """Refuse a part with a warning of the server, unless it is a remark on the statement.

    InfluxDB itself warns of deprecated statements only (``influxql.Message`` of 1.8); what stands
    between it and us may warn that a part of the data is missing.
    """
    for message in messages if type(messages) is list else []:
        text = message.get("text") if type(message) is dict else message
        reason = one_line(text if type(text) is str else "no reason given", 300)
        if not reason.lower().startswith("deprecated"):
            msg = f"the answer may be incomplete: {reason}"
            raise BadResponseError(msg, problem="cut_off")


def refusal(text: object) -> BadResponseError | ServiceUnavailableError:
    """Return the error for a statement's error text, which comes with status 200."""
    reason = one_line(text if type(text) is str else "no reason given", 300)
    msg = f"InfluxDB refused the query: {reason}"
    for words, problem in _REFUSALS:
        if words in reason:
            return BadResponseError(msg, problem=problem)
    if any(words in reason for words in _UNAVAILABLE):
        return ServiceUnavailableError(msg)
    return BadResponseError(msg, problem="query_refused")


def read_policies(result: object) -> list[RetentionPolicy]:
    """Return the answer to ``SHOW RETENTION POLICIES``.

    Raises:
        BadResponseError: it is malformed.
    """
    policies = []
    for series in _series(json_object(result, "the policies")):
        for entry in _entries(series, "the policies"):
            name, text = entry.get("name"), entry.get("duration")
            if type(name) is not str or type(text) is not str:
                msg = "a retention policy without a name or a duration"
                raise BadResponseError(msg, problem="bad_value")
            policies.append(RetentionPolicy(name, _seconds(text), entry.get("default") is True))
    return policies


def read_edge(result: object) -> int | None:
    """Return the Unix time of a statement's only point; None if there is none.

    Raises:
        BadResponseError: it is not a time.
    """
    for series in _series(json_object(result, "the edge")):
        for row in json_list(json_object(series, "the edge").get("values"), "values"):
            moment = next(iter(json_list(row, "a point")), None)
            if type(moment) is not int or not MINUTE <= moment <= MAX_MOMENT:
                msg = f"{str(moment)[:40]!r} is not a time in Unix seconds"
                raise BadResponseError(msg, problem="bad_value")
            return moment
    return None


def read_names(result: object) -> set[str]:
    """Return the names that ``SHOW MEASUREMENTS`` lists.

    Raises:
        BadResponseError: it is malformed.
    """
    names: set[str] = set()
    for series in _series(json_object(result, "the measurements")):
        for row in json_list(json_object(series, "the measurements").get("values"), "values"):
            names.update(name for name in json_list(row, "a measurement") if type(name) is str)
    return names


def read_version(result: object) -> str:
    """Return the version that ``SHOW DIAGNOSTICS`` names; "" if it names none.

    Raises:
        BadResponseError: it is not a table.
    """
    for series in _series(json_object(result, "the diagnostics")):
        part = json_object(series, "the diagnostics")
        if part.get("name") == "build":
            for entry in _entries(part, "the diagnostics"):
                return clean_text(entry.get("Version", ""), "the version", 60)
    return ""


@dataclass(slots=True)
class Points:
    """The points of one statement, checked: equally long columns."""

    times: list[int]
    tags: list[Tags]
    values: list[list[Any]]
    """One list per requested column."""


def read_points(
    result: object, series: Series, columns: Sequence[str], span: Span, where: str
) -> Points:
    """Return the points of one statement.

    Args:
        result: the statement's part of the answer, unchecked.
        series: the requested series.
        columns: the requested fields of InfluxDB.
        span: the requested range.
        where: the measurement's name, for errors.

    Raises:
        BadResponseError: a series comes twice, times are not in order or outside the range, a name
            is not text, or the part is malformed.
    """
    points = Points([], [], [[] for _ in columns])
    found = _series(json_object(result, where))
    if len(found) > (MAX_SERIES if span.grouped else 1):
        problem: Problem = "too_many_series" if span.grouped else "duplicate_series"
        msg = f"{where}: {len(found)} series in one answer"
        raise BadResponseError(msg, problem=problem)
    expected = ["time", *columns] if span.grouped else ["time", *columns, *series.tags]
    seen: set[Tags] = set()
    for part in found:
        read = _read_series(json_object(part, where), expected, where)
        times, values = read[0], read[1 : 1 + len(columns)]
        if span.grouped:
            tags = _tags(part, series, where)
            if tags in seen:
                msg = f"{where}: the series {one_line(repr(tags), 120)} comes twice"
                raise BadResponseError(msg, problem="duplicate_series")
            seen.add(tags)
            points.tags += repeat(tags, len(times))
        else:
            points.tags += _tag_columns(read[1 + len(columns) :], where)
        points.times += times
        for column, more in zip(points.values, values, strict=True):
            column.extend(more)
    return points


def put_points(points: Points, series: Series, span: Span, table: Table, where: str) -> None:
    """Add minutes to the table of their kind.

    Args:
        points: the points of one statement.
        series: the requested series.
        span: the requested range.
        table: the kind's table.
        where: the measurement's name, for errors.

    Raises:
        BadResponseError: a value is not a number, or one series has a time twice.
    """
    times = points.times
    numbers = _numbers(points.tags, series, table)
    ends = bool(series.type)
    aligned = not any(time % MINUTE for time in set(times))
    if aligned and ends:
        minutes = [time - MINUTE for time in times]
    elif ends:
        minutes = [(time - 1) // MINUTE * MINUTE for time in times]
    else:
        minutes = [time - time % MINUTE for time in times]
    check_span(minutes, span, where)
    codes = codes_of(minutes, numbers)
    if series.kind == "pod" and series.merge == "one":
        hosts = zip(codes, points.tags, strict=True)
        table.hosts.update((code, tags[2] or "") for code, tags in hosts if code >= 0)
    whole = integers(points.values[0], where, series.scale)
    codes, whole = of_series(table, codes, whole)
    if series.merge == "sum":
        codes, whole = believable_parts(table, series.field, codes, whole)
        sums = summed(codes, whole)
        table.put(series.field, list(sums), sums.values(), where)
    elif series.merge == "samples" or not aligned:
        exact = [code for code in codes_of(times, numbers) if code >= 0]
        if series.merge == "one" and len(set(exact)) < len(exact):
            raise table.twice(exact, where)
        cells = sampled_cells(codes, whole)
        table.put(series.field, list(cells), cells.values(), where)
    else:
        table.put(series.field, codes, whole, where)


def _numbers(tags: Sequence[Tags], series: Series, table: Table) -> list[int]:
    """Return the number of each point's series; Telegraf's nodes use the first present tag."""
    if series.type:
        return list(map(table.numbers.__getitem__, tags))
    return [table.numbers[(first or second,)] for first, second in tags]


def check_span(starts: Sequence[int], span: Span, where: str) -> None:
    """Check that times are within the requested range.

    Raises:
        BadResponseError: one is not.
    """
    if starts and not span.start <= min(starts) <= max(starts) < span.end:
        strange = min(starts) if min(starts) < span.start else max(starts)
        msg = f"{where}: {strange} is outside the requested range, {span.start}..{span.end}"
        raise BadResponseError(msg, problem="bad_value")


def _read_series(part: dict[str, Any], expected: list[str], where: str) -> list[list[Any]]:
    """Return the columns of one series; times are checked to ascend."""
    if part.get("columns") != expected:
        others = one_line(str(part.get("columns")), 100)
        msg = f"{where}: columns {others} where {expected} were requested"
        raise BadResponseError(msg, problem="bad_value")
    rows = json_list(part.get("values"), f"{where}: values")
    if not rows:
        return [[] for _ in expected]
    if set(map(type, rows)) != {list} or set(map(len, rows)) != {len(expected)}:
        msg = f"{where}: a point does not have {len(expected)} values"
        raise BadResponseError(msg, problem="bad_value")
    columns = list(map(list, zip(*rows, strict=True)))
    times = columns[0]
    if set(map(type, times)) != {int}:
        msg = f"{where}: a time is not a whole number of seconds"
        raise BadResponseError(msg, problem="bad_value")
    if not all(map(le, times, times[1:])):
        msg = f"{where}: the points are not in order of time"
        raise BadResponseError(msg, problem="unsorted")
    return columns


def _tags(part: dict[str, Any], series: Series, where: str) -> Tags:
    named = json_object(part.get("tags"), f"{where}: tags")
    tags = tuple(map(named.get, series.tags))
    if set(map(type, tags)) not in _TEXT:
        msg = f"{where}: a name that is not text"
        raise BadResponseError(msg, problem="bad_name")
    return tags


def _tag_columns(columns: list[list[Any]], where: str) -> Iterable[Tags]:
    if any(column and set(map(type, column)) not in _TEXT for column in columns):
        msg = f"{where}: a name that is not text"
        raise BadResponseError(msg, problem="bad_name")
    return zip(*columns, strict=True)


def _series(part: dict[str, Any]) -> list[Any]:
    return json_list(part.get("series", []), "series")


def _entries(series: object, where: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of a small table as column name -> value."""
    part = json_object(series, where)
    columns = json_list(part.get("columns"), f"{where}: columns")
    if not set(map(type, columns)) <= {str}:
        msg = f"{where}: the name of a column is not text"
        raise BadResponseError(msg, problem="bad_value")
    for row in json_list(part.get("values", []), f"{where}: values"):
        yield dict(zip(columns, json_list(row, where), strict=False))


def _seconds(duration: str) -> int | None:
    """Return a Go duration ("672h0m0s") in seconds; None for 0, which means forever."""
    found = _DURATION.fullmatch(duration)
    if found is None or not duration:
        msg = f"{duration[:40]!r} is not a duration"
        raise BadResponseError(msg, problem="bad_value")
    hours, minutes, seconds = found.groups(default="0")
    return 3600 * int(hours) + 60 * int(minutes) + int(float(seconds)) or None
