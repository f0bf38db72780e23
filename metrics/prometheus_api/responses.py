"""Answers in Prometheus' JSON."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import orjson
from django.http import HttpRequest, HttpResponse

from metrics.prometheus_api.evaluation import Row
from metrics.prometheus_api.metric_names import METRICS
from metrics.prometheus_api.parameters import time_text
from metrics.prometheus_api.promql import Aggregate, Expression, Number
from metrics.prometheus_api.sampling import Grid


def matrix(rows: Iterable[Row], grid: Grid) -> dict[str, Any]:
    """Return the answer to a range query: the times that have a value."""
    moments = [time_text(grid.start_ms + i * grid.step_ms) for i in range(grid.count)]
    result = [
        {
            "metric": row.labels,
            "values": [
                (at, number(value))
                for at, value in zip(moments, row.values, strict=True)
                if value is not None
            ],
        }
        for row in rows
    ]
    result.sort(key=_by_labels)
    return {"resultType": "matrix", "result": result}


def vector(rows: Iterable[Row], grid: Grid, expression: Expression) -> dict[str, Any]:
    """Return the answer to an instant query; a top list keeps its order."""
    at = time_text(grid.start_ms)
    if isinstance(expression, Number):
        return {"resultType": "scalar", "result": (at, number(expression.value))}
    found = [(row.labels, row.values[0]) for row in rows]
    result = [
        {"metric": labels, "value": (at, number(value))}
        for labels, value in found
        if value is not None
    ]
    if not (isinstance(expression, Aggregate) and expression.count is not None):
        result.sort(key=_by_labels)
    return {"resultType": "vector", "result": result}


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


def _by_labels(entry: dict[str, Any]) -> list[tuple[str, str]]:
    return sorted(entry["metric"].items())


def is_prometheus(request: HttpRequest) -> bool:
    """Return whether the request is answered in Prometheus' format."""
    return request.path.startswith("/prometheus/")


def prometheus_error(http_status: int, error_type: str, message: str) -> HttpResponse:
    """Return an error in Prometheus' format."""
    body = {"status": "error", "errorType": error_type, "error": message}
    return json_response(body, http_status)


def json_response(
    body: object, http_status: int, headers: Mapping[str, str] | None = None
) -> HttpResponse:
    """Return JSON as Prometheus sends it."""
    content = orjson.dumps(body)
    return HttpResponse(
        content, status=http_status, content_type="application/json", headers=dict(headers or {})
    )
