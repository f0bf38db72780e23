"""Common to all reads of metrics: validation of input, and the store's errors."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar
from uuid import UUID

from metrics.series.catalog import Kind, Unit, field_of
from metrics.series.windows import DAY, STREAM
from metrics.stores import StoreError, get_store
from opscenter.core.errors import InvalidInputError, OpsCenterError

FRESH_SECONDS = 300
"""Data younger than this, in seconds, is up to date: missing newer data is not yet a gap."""

_LONGEST_RANGE = 10 * 366 * DAY
_LATEST = 2**40

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")


class MetricsUnavailableError(OpsCenterError):
    """The metric store cannot be read; the log has the reason."""

    code = "metrics_unavailable"
    http_status = 503


def reads_store(function: Callable[P, T]) -> Callable[P, T]:
    """Turn a store's error, which names files, into one that is safe for any user."""

    @wraps(function)
    def translated(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except StoreError as exc:
            log.error("metric store: %s", exc)
            msg = "The metric store cannot be read at the moment; Ops Center's log says why."
            raise MetricsUnavailableError(msg) from exc

    return translated


def check_field(kind: Kind, field: str) -> Unit:
    """Return the unit of a field.

    Raises:
        InvalidInputError: the kind has no such field.
    """
    try:
        return field_of(kind, field).unit
    except KeyError as exc:
        msg = f"field: {kind} has no field {field!r}"
        raise InvalidInputError(msg) from exc


def check_range(start: int, end: int) -> None:
    """Refuse a range that is empty or absurd.

    Raises:
        InvalidInputError: naming the end that does not fit.
    """
    if start >= end:
        msg = "end: the range is empty; end must be after start"
        raise InvalidInputError(msg)
    if start < 0 or end > _LATEST or end - start > _LONGEST_RANGE:
        msg = "start: the range is longer than ten years or outside of time"
        raise InvalidInputError(msg)


def finest_stored(cluster: UUID, start: int, end: int) -> int:
    """Return the width in seconds of the finest values that a cluster's whole range has.

    Where the source no longer had minutes, a gap was filled with wider values.
    """
    windows = get_store().window_runs(cluster, STREAM, start, end)
    return max((window.resolution for window in windows if window.got), default=0)


def elapsed(head: int | None, now: int) -> int:
    """Return the end of the data that can exist: the head if it is fresh, else now."""
    now -= now % 60
    return head if head is not None and 0 <= now - head <= FRESH_SECONDS else now
