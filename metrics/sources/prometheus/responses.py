"""The answers of Prometheus' query API, checked. Pure.

Every answer is untrusted until it has been checked here. Numbers are read a series at a time by
loops that run in C, because a fleet's answers hold some 200,000 numbers a minute.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import chain, pairwise, repeat
from typing import Any, NamedTuple, NoReturn

from metrics.series.rollups import LARGEST
from metrics.series.rows import Cell
from metrics.sources.validation import clean_text
from opscenter.core.errors import BadResponseError, Problem
from opscenter.core.text import one_line

MAX_LABELS = 64
MAX_LABEL = 2048  # characters, before anything of it is used
_MAX_MESSAGE = 300
_BEYOND = 2 * LARGEST  # for infinite values too: more than can be believed of any field

Labels = Mapping[str, str]
Cells = list[Cell | None]
# What Cell._make does without its check of the length.
_new_cell: Callable[[Iterable[int]], Cell] = partial(tuple.__new__, Cell)


class Line(NamedTuple):
    """One series of a matrix: a cell for each requested minute, None where it has none."""

    labels: Labels
    cells: Cells


def read_matrix(raw: object, times: Sequence[int], *, most: int) -> list[Line]:
    """Return the series of an answer to ``query_range``.

    Args:
        raw: the parsed JSON, unchecked.
        times: the requested times in Unix seconds, ascending.
        most: the largest accepted number of series.

    Raises:
        BadResponseError: names what is wrong; nothing of the answer may be used.
    """
    entries = _series(raw, "matrix", most)
    grid = tuple(times)
    read = _read_full_series([values for _, values in entries], grid)
    if read is None:
        place = {time: at for at, time in enumerate(grid)}
        read = [
            _cells(values, grid, place, f"result[{position}]")
            for position, (_, values) in enumerate(entries)
        ]
    return [Line(labels, cells) for (labels, _), cells in zip(entries, read, strict=True)]


def read_vector(raw: object, *, most: int) -> list[tuple[Labels, float]]:
    """Return the series of an answer to ``query``; NaN where there is not a number.

    Raises:
        BadResponseError: names what is wrong.
    """
    found: list[tuple[Labels, float]] = []
    for position, (labels, value) in enumerate(_series(raw, "vector", most)):
        where = f"result[{position}]"
        match value:
            case [int() | float(), str() as text]:
                number = _number(text, where)
                if math.isinf(number):
                    refuse(f"{where}: an infinite value", "bad_value")
                found.append((labels, number))
            case _:
                refuse(f"{where}: no pair of a time and a number", "bad_value")
    return found


def read_data(raw: object) -> dict[str, Any]:
    """Return the ``data`` of an answer to any query.

    Raises:
        BadResponseError: it is malformed, an error, or partial.
    """
    if type(raw) is not dict:
        refuse("the answer is not an object", "bad_value")
    if raw.get("status") != "success":
        error = raw.get("error")
        text = clean_text(error[:_MAX_MESSAGE], "error", _MAX_MESSAGE) if type(error) is str else ""
        refuse(f"the query failed: {text or 'no reason given'}", "query_refused")
    _check_whole(raw)
    data = raw.get("data")
    if type(data) is not dict:
        refuse("the answer has no data", "bad_value")
    return data


def _check_whole(raw: Mapping[str, Any]) -> None:
    """Refuse an answer of which the server says that a part is missing.

    VictoriaMetrics says so in ``isPartial``, Thanos, Mimir and a Prometheus with remote reads in
    ``warnings``. A warning that begins with "PromQL" is a remark on the query (Prometheus,
    ``util/annotations``), and what it says of the answer is that it is whole. An error beside the
    data means that these are what was there until then.
    """
    if raw.get("isPartial"):
        refuse("the answer is partial: a storage node of the server is away", "cut_off")
    warnings = raw.get("warnings") or []
    warnings = warnings if type(warnings) is list else [warnings]
    for warning in [*warnings, *([raw["error"]] if raw.get("error") else [])]:
        text = warning if type(warning) is str else "no reason given"
        if not text.startswith("PromQL"):
            refuse(f"the answer is partial: {one_line(text, _MAX_MESSAGE)}", "cut_off")


def refuse(message: str, problem: Problem) -> NoReturn:
    """Raise the error for an answer that is not acceptable."""
    raise BadResponseError(message, problem=problem)


def _series(raw: object, kind: str, most: int) -> list[tuple[dict[str, str], object]]:
    """Return each series' labels, checked, and its values, unchecked; no label set comes twice."""
    data = read_data(raw)
    if data.get("resultType") != kind:
        refuse(f"the answer is no {kind}", "bad_value")
    result = data.get("result")
    if type(result) is not list:
        refuse("the result is not a list", "bad_value")
    if len(result) > most:
        refuse(f"{len(result)} series; at most {most} are accepted", "too_many_series")
    values = "values" if kind == "matrix" else "value"
    try:
        entries = [(entry["metric"], entry.get(values)) for entry in result]
    except (TypeError, KeyError, AttributeError) as exc:
        msg = "the result holds something that is not a series"
        raise BadResponseError(msg, problem="bad_value") from exc
    _check_labels([labels for labels, _ in entries])
    return entries


def _check_labels(all_labels: list[Any]) -> None:
    """Refuse labels that are not text, too many or too long, and a duplicate label set."""
    if any(type(labels) is not dict for labels in all_labels):
        refuse("a series' labels are not an object", "bad_value")
    texts = list(chain.from_iterable(map(dict.values, all_labels)))
    if not set(map(type, texts)) <= {str}:
        refuse("a label is not text", "bad_name")
    if max(map(len, all_labels), default=0) > MAX_LABELS:
        refuse(f"a series has more than {MAX_LABELS} labels", "bad_name")
    if max(map(len, texts), default=0) > MAX_LABEL:
        refuse(f"a label is longer than {MAX_LABEL} characters", "bad_name")
    if len(set(map(frozenset, map(dict.items, all_labels)))) < len(all_labels):
        refuse("the same series comes twice", "duplicate_series")


def _read_full_series(all_values: list[Any], grid: tuple[int, ...]) -> list[Cells] | None:
    """Return the cells of all series at once, which is much faster than one by one.

    Returns:
        None if any of them has a gap, or anything that is not a whole number: they must then be
        read one by one, which also finds what is wrong.
    """
    size = len(grid)
    if any(type(values) is not list or len(values) != size for values in all_values):
        return None
    if not all_values:
        return []
    try:
        times, texts = zip(*chain.from_iterable(all_values), strict=True)
        if times != grid * len(all_values) or set(map(type, texts)) != {str}:
            return None
        numbers = list(map(int, texts))
    except (TypeError, ValueError):
        return None
    cells: Cells = list(map(_new_cell, zip(repeat(1), numbers, numbers, numbers)))
    return [cells[at : at + size] for at in range(0, len(cells), size)]


def _cells(values: object, grid: tuple[int, ...], place: Mapping[int, int], where: str) -> Cells:
    """Return a cell for each moment of the grid."""
    if type(values) is not list:
        refuse(f"{where}: no values", "bad_value")
    if not values:
        return [None] * len(grid)
    try:
        times, texts = zip(*values, strict=True)
    except (TypeError, ValueError) as exc:
        msg = f"{where}: a value is not a pair of a time and a number"
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
        return [_cell(_number(text, where)) for text in texts]
    return list(map(_new_cell, zip(repeat(1), numbers, numbers, numbers)))


def _cell(value: float) -> Cell | None:
    """Return a sample's cell; what is beyond all bounds is refused later, by its field."""
    if math.isnan(value):
        return None
    whole = math.floor(max(-_BEYOND, min(_BEYOND, value)) + 0.5)
    return Cell(1, whole, whole, whole)


def _number(text: str, where: str) -> float:
    """Return a number, which may be NaN or infinite.

    Raises:
        BadResponseError: it is not a number.
    """
    try:
        return float(text)
    except ValueError as exc:
        msg = f"{where}: {clean_text(text[:40], 'value', 40)!r} where a number is expected"
        raise BadResponseError(msg, problem="bad_value") from exc
