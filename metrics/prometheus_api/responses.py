"""Answers in Prometheus' JSON."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping

import orjson
from django.http import HttpRequest, HttpResponse

from metrics.prometheus_api.errors import TooMuchError
from metrics.prometheus_api.metric_names import METRICS
from metrics.prometheus_api.parameters import time_text
from metrics.prometheus_api.promql import Aggregate, Expression, Number
from metrics.prometheus_api.sampling import Grid
from metrics.prometheus_api.series_reader import Row

MAX_ANSWERED = 500_000
"""Samples of one answer."""
MAX_BYTES = 20_000_000
"""Length of one answer."""

_PIECE_BYTES = 128 * 1024
_Key = tuple[tuple[str, str], ...]


class Pieces:
    """The bytes of an answer, which may not become too many."""

    def __init__(self) -> None:
        self._length = 0
        self._whole: list[bytes] = []
        self._open = bytearray()

    def add(self, data: bytes) -> None:
        """Append some bytes.

        Raises:
            TooMuchError: the answer is too long.
        """
        self._length += len(data)
        check_length(self._length)
        self._open += data
        if len(self._open) >= _PIECE_BYTES:
            self._whole.append(bytes(self._open))
            self._open.clear()

    def list(self, opening: bytes, entries: Iterable[bytes], closing: bytes) -> list[bytes]:
        """Append a list of entries of JSON between two texts, and return all pieces."""
        self.add(opening)
        for index, entry in enumerate(entries):
            self.add(b"," + entry if index else entry)
        self.add(closing)
        return [*self._whole, bytes(self._open)]


class Matrix:
    """The answer to a range query: the times that have a value, of each series."""

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self._series: dict[_Key, bytearray] = {}
        self._samples = self._length = 0

    def add(self, first: int, rows: Iterable[Row]) -> None:
        """Append a part of the times, which begins at the one with index ``first``.

        Raises:
            TooMuchError: the answer has too many samples, or is too long.
        """
        for row in rows:
            texts = [
                f'[{self._time(first + index)},"{number(value)}"],'
                for index, value in enumerate(row.values)
                if value is not None
            ]
            self._samples += len(texts)
            if self._samples > MAX_ANSWERED:
                msg = (
                    f"the answer would have more than {MAX_ANSWERED:,} samples; narrow the selector"
                    " or the range, or widen the step"
                )
                raise TooMuchError(msg)
            data = "".join(texts).encode()
            self._length += len(data)
            check_length(self._length)
            self._series.setdefault(tuple(sorted(row.labels.items())), bytearray()).extend(data)

    def pieces(self) -> list[bytes]:
        """Return the answer, by labels; forgets what was added.

        Raises:
            TooMuchError: it is too long.
        """
        series = sorted(self._series)

        def entries() -> Iterator[bytes]:
            for key in series:
                values = self._series.pop(key)
                yield b'{"metric":%b,"values":[%b]}' % (orjson.dumps(dict(key)), bytes(values[:-1]))

        return Pieces().list(b'{"resultType":"matrix","result":[', entries(), b"]}")

    def _time(self, index: int) -> float | int:
        return time_text(self._grid.start_ms + index * self._grid.step_ms)


def vector(rows: Iterable[Row], grid: Grid, expression: Expression) -> list[bytes]:
    """Return the answer to an instant query; a top list keeps its order.

    Raises:
        TooMuchError: it is too long.
    """
    at = time_text(grid.start_ms)
    if isinstance(expression, Number):
        scalar = {"resultType": "scalar", "result": (at, number(expression.value))}
        return [orjson.dumps(scalar)]
    found = [row for row in rows if row.values[0] is not None]
    if not (isinstance(expression, Aggregate) and expression.count is not None):
        found.sort(key=lambda row: sorted(row.labels.items()))
    entries = (
        orjson.dumps({"metric": row.labels, "value": (at, number(value))})
        for row in found
        for value in row.values
        if value is not None
    )
    return Pieces().list(b'{"resultType":"vector","result":[', entries, b"]}")


def texts(found: Iterable[str]) -> list[bytes]:
    """Return a list of texts.

    Raises:
        TooMuchError: it is too long.
    """
    return Pieces().list(b"[", map(orjson.dumps, found), b"]")


def distinct(found: Iterable[str]) -> set[str]:
    """Return each text once.

    Raises:
        TooMuchError: together they are too long.
    """
    seen: set[str] = set()
    length = 0
    for text in found:
        if text not in seen:
            seen.add(text)
            length += len(text)
            check_length(length)
    return seen


def check_length(length: int) -> None:
    """Check that an answer of so many bytes may be given.

    Raises:
        TooMuchError: it may not.
    """
    if length > MAX_BYTES:
        msg = f"the answer would be longer than {MAX_BYTES:,} bytes; narrow the query"
        raise TooMuchError(msg)


def metadata(metric: str | None, limit: int | None) -> dict[str, list[dict[str, str]]]:
    """Return type, help and unit of each metric."""
    found = [one for one in METRICS.values() if metric in (None, "", one.name)]
    return {
        one.name: [{"type": "gauge", "help": one.help, "unit": one.unit}] for one in found[:limit]
    }


def number(value: float) -> str:
    """Return a value as Prometheus writes it."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e15 else repr(value)


def is_prometheus(request: HttpRequest) -> bool:
    """Return whether the request is answered in Prometheus' format."""
    return request.path.startswith("/prometheus/")


def prometheus_error(
    http_status: int, error_type: str, message: str, headers: Mapping[str, str] | None = None
) -> HttpResponse:
    """Return an error in Prometheus' format."""
    body = {"status": "error", "errorType": error_type, "error": message}
    return json_response(body, http_status, headers)


def json_response(
    body: object, http_status: int, headers: Mapping[str, str] | None = None
) -> HttpResponse:
    """Return JSON as Prometheus sends it."""
    content = orjson.dumps(body)
    return HttpResponse(
        content, status=http_status, content_type="application/json", headers=dict(headers or {})
    )
