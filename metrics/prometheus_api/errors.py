"""What a query can be refused for, in the words of Prometheus' API."""

from __future__ import annotations

from typing import Literal

ErrorType = Literal["bad_data", "execution", "timeout", "unavailable", "internal", "not_found"]


class QueryError(Exception):
    """A refusal, with the HTTP status and Prometheus' ``errorType``."""

    status = 400
    error_type: ErrorType = "bad_data"


class UnsupportedError(QueryError):
    """Good PromQL that Ops Center does not answer; the message says which part of it."""

    status = 422
    error_type: ErrorType = "execution"


class TooMuchError(QueryError):
    """The query would read more than is answered at a time; the message says how to narrow it."""

    status = 422
    error_type: ErrorType = "execution"


class DeadlineError(QueryError):
    """The query took too long."""

    status = 503
    error_type: ErrorType = "timeout"
