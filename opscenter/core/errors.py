"""The errors that Ops Center raises itself, each with a stable code for the API.

Adapters translate library errors into these at their boundary. A message says what happened,
to which cluster, file or field, and what to do next.
"""

from __future__ import annotations

from typing import Literal

Problem = Literal[
    "", "credentials_refused", "forbidden", "not_found", "query_refused", "server_error",
    "redirect", "not_json", "too_large", "cut_off", "database_missing", "too_many_series",
    "bad_value", "duplicate_series", "unsorted", "bad_name",
]  # fmt: skip
"""What is wrong with an answer, as a word that programs may compare."""


class OpsCenterError(Exception):
    """An error with a stable machine code and the HTTP status that it answers with."""

    code = "error"
    http_status = 500


class NotFoundError(OpsCenterError):
    """The object does not exist, or the user may not see it: the two look the same."""

    code = "not_found"
    http_status = 404


class ForbiddenError(OpsCenterError):
    """The user sees the object but lacks the permission to do this with it."""

    code = "forbidden"
    http_status = 403


class InvalidInputError(OpsCenterError):
    """A value from outside is refused; the message names the field."""

    code = "invalid"
    http_status = 400


class ConflictError(InvalidInputError):
    """The value is well-formed but taken already; the message names the field."""

    code = "conflict"
    http_status = 409


class EnrolmentRefusedError(OpsCenterError):
    """A join token is wrong, expired, used or revoked, or the key is not acceptable."""

    code = "enrolment_refused"
    http_status = 403


class ClusterError(OpsCenterError):
    """A pull from a cluster failed; the subclasses say where.

    Attributes:
        problem: which of :data:`Problem` it is; "" if nothing more exact than the code is known.
    """

    code = "cluster_error"
    http_status = 502
    problem: Problem = ""

    @property
    def name(self) -> str:
        """Return the most exact word for what is wrong; as stable as a code."""
        return self.problem or self.code


class ClusterUnreachableError(ClusterError):
    """The tunnel is down, or the hub does not hold it."""

    code = "tunnel_down"
    http_status = 503


class GatewayDownError(ClusterUnreachableError):
    """Our own hub's gateway cannot be reached: nothing is known of the tunnel behind it."""

    code = "gateway_down"


class ServiceUnavailableError(ClusterError):
    """The tunnel is up, but the service behind it does not answer in time or refuses."""

    code = "service_down"
    http_status = 503


class ServiceFailedError(ServiceUnavailableError):
    """The service answers that it failed: a status of 500 or above."""

    problem = "server_error"


class ConsentOffError(ClusterError):
    """The tunnel is up, but the agent's owner does not let the service through it."""

    code = "consent_off"
    http_status = 503


class SourceConfigError(ClusterError):
    """The cluster's source cannot be queried as it is set here: no key opens a secret."""

    code = "source_config"
    http_status = 503


class BadResponseError(ClusterError):
    """The service answered with something that is refused: too large, not JSON, wrong shape.

    Attributes:
        status: the HTTP status of the answer; None if it was 200 or there was none.
    """

    code = "bad_response"
    http_status = 502

    def __init__(self, message: str, *, problem: Problem = "", status: int | None = None) -> None:
        super().__init__(message)
        self.problem = problem
        self.status = status
