"""The answers of Prometheus' query API, checked. Pure.

Whatever comes back is hostile until it has passed here. Numbers are read a series at a time by
loops that run in C, because a fleet's answers hold some 200,000 numbers a minute.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import pairwise, repeat
from typing import Any, NamedTuple, NoReturn

from metrics.rollups import LARGEST
from metrics.sources.names import clean_text
from metrics.stores.base import Cell
from opscenter.core.errors import BadResponseError, Problem

MAX_LABELS = 64
MAX_LABEL = 2048  # characters, before anything of it is used
_MAX_MESSAGE = 300

Labels = Mapping[str, str]
Cells = list[Cell | None]
# What Cell._make does without its check of the length.
_new_cell: Callable[[Iterable[int]], Cell] = partial(tuple.__new__, Cell)


class Line(NamedTuple):
    """One series of a matrix: a cell for each asked minute, None where it has none."""

    labels: Labels
    cells: Cells


def read_matrix(raw: object, times: Sequence[int], *, most: int) -> list[Line]:
    """Return the series of an answer to ``query_range``.

    Args:
        raw: the parsed JSON.
        times: the moments that were asked for, ascending.
        most: how many series are accepted.

    Raises:
        BadResponseError: names what is wrong; nothing of the answer may be used.
    """
    grid = tuple(times)
    place = {time: at for at, time in enumerate(grid)}
    return [
        Line(labels, _cells(entry.get("values"), grid, place, where))
        for entry, labels, where in _series(raw, "matrix", most)
    ]


def read_vector(raw: object, *, most: int) -> list[tuple[Labels, float]]:
    """Return the series of an answer to ``query``; NaN where there is no number.

    Raises:
        BadResponseError: names what is wrong.
    """
    found = []
    for entry, labels, where in _series(raw, "vector", most):
        match entry.get("value"):
            case [int() | float(), str() as text]:
                found.append((labels, _number(text, where)))
            case _:
                refuse(f"{where}: no pair of a time and a number", "bad_value")
    return found


def read_data(raw: object) -> dict[str, Any]:
    """Return the ``data`` of an answer, whatever it was asked.

    Raises:
        BadResponseError: it is no such answer, an error, or only a part.
    """
    if type(raw) is not dict:
        refuse("the answer is no object", "bad_value")
    if raw.get("status") != "success":
        said = raw.get("error")
        text = clean_text(said[:_MAX_MESSAGE], "error", _MAX_MESSAGE) if type(said) is str else ""
        refuse(f"the query failed: {text or 'no reason given'}", "query_refused")
    if raw.get("isPartial") is True:  # VictoriaMetrics with a storage node down
        refuse("the answer is partial: a storage node of the server is away", "cut_off")
    data = raw.get("data")
    if type(data) is not dict:
        refuse("the answer has no data", "bad_value")
    return data


def refuse(message: str, problem: Problem) -> NoReturn:
    """Raise the error for an answer that is not acceptable."""
    raise BadResponseError(message, problem=problem)


def _series(raw: object, kind: str, most: int) -> Iterable[tuple[dict[str, Any], Labels, str]]:
    """Yield each series with its labels and a name for messages; no label set comes twice."""
    data = read_data(raw)
    if data.get("resultType") != kind:
        refuse(f"the answer is no {kind}", "bad_value")
    result = data.get("result")
    if type(result) is not list:
        refuse("the result is no list", "bad_value")
    if len(result) > most:
        refuse(f"{len(result)} series; at most {most} are accepted", "too_many_series")
    seen: set[frozenset[tuple[str, str]]] = set()
    for position, entry in enumerate(result):
        where = f"result[{position}]"
        if type(entry) is not dict or type(labels := entry.get("metric")) is not dict:
            refuse(f"{where}: no series with labels", "bad_value")
        values = labels.values()
        if len(labels) > MAX_LABELS or not all(
            type(v) is str and len(v) <= MAX_LABEL for v in values
        ):
            refuse(f"{where}: labels are too many, too long, or no text", "bad_name")
        identity = frozenset(labels.items())
        if identity in seen:
            refuse(f"{where}: the same series twice", "duplicate_series")
        seen.add(identity)
        yield entry, labels, where


def _cells(values: object, grid: tuple[int, ...], place: Mapping[int, int], where: str) -> Cells:
    """Return a cell for each moment of the grid."""
    if type(values) is not list:
        refuse(f"{where}: no values", "bad_value")
    if not values:
        return [None] * len(grid)
    try:
        times, texts = zip(*values, strict=True)
    except (TypeError, ValueError) as exc:
        msg = f"{where}: a value is no pair of a time and a number"
        raise BadResponseError(msg, problem="bad_value") from exc
    if set(map(type, texts)) != {str}:
        refuse(f"{where}: a number is not written as text", "bad_value")
    cells = _read_numbers(texts, where)
    if times == grid:
        return cells
    spread: Cells = [None] * len(grid)
    for at, cell in zip(_places(times, place, where), cells, strict=True):
        spread[at] = cell
    return spread


def _places(times: Sequence[object], place: Mapping[int, int], where: str) -> list[int]:
    try:
        found = [place[time] for time in times]  # type: ignore[index]
    except (KeyError, TypeError) as exc:
        msg = f"{where}: a time that was not asked for"
        raise BadResponseError(msg, problem="bad_value") from exc
    if any(first >= second for first, second in pairwise(found)):
        refuse(f"{where}: the points are not in the order of time", "unsorted")
    return found


def _read_numbers(texts: Sequence[str], where: str) -> Cells:
    """Return a cell for each text; None for NaN."""
    try:
        numbers = list(map(int, texts))
    except ValueError:
        # NaN, or a number that the server did not round.
        return [_cell(_number(text, where), where) for text in texts]
    if max(numbers) > LARGEST or min(numbers) < -LARGEST:
        refuse(f"{where}: a value is beyond {LARGEST}", "bad_value")
    return list(map(_new_cell, zip(repeat(1), numbers, numbers, numbers)))


def _cell(value: float, where: str) -> Cell | None:
    if math.isnan(value):
        return None
    if abs(value) > LARGEST:
        refuse(f"{where}: a value is beyond {LARGEST}", "bad_value")
    whole = math.floor(value + 0.5)
    return Cell(1, whole, whole, whole)


def _number(text: str, where: str) -> float:
    """Return a number; NaN is one.

    Raises:
        BadResponseError: it is none, or infinite.
    """
    try:
        value = float(text)
    except ValueError as exc:
        msg = f"{where}: {clean_text(text[:40], 'value', 40)!r} where a number must be"
        raise BadResponseError(msg, problem="bad_value") from exc
    if math.isinf(value):
        refuse(f"{where}: an infinite value", "bad_value")
    return value
