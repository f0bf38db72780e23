"""The errors of a query, in the terms of Prometheus' API."""

from __future__ import annotations

from typing import Literal

ErrorType = Literal["bad_data", "execution", "timeout", "unavailable", "internal", "not_found"]


class QueryError(Exception):
    """A refusal, with the HTTP status and Prometheus' ``errorType``."""

    status = 400
    error_type: ErrorType = "bad_data"


class UnsupportedError(QueryError):
    """Valid PromQL that Ops Center does not support; the message names the part."""

    status = 422
    error_type: ErrorType = "execution"


class TooMuchError(QueryError):
    """The query would read more than the limit; the message says how to narrow it."""

    status = 422
    error_type: ErrorType = "execution"


class DeadlineError(QueryError):
    """The query took too long."""

    status = 503
    error_type: ErrorType = "timeout"
