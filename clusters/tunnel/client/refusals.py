"""What a service says when it refuses, as one error with a stable word and a clean text.

A refusal's body is shown to operators: it names the database that is missing, or what is wrong
with a query. It comes from outside, so it is cut, put on one line, stripped of markup, and anything
that we sent as a credential is taken out, in case the service repeats it.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping

import orjson

from opscenter.core.errors import (
    BadResponseError,
    ClusterError,
    Problem,
    ServiceFailedError,
)
from opscenter.core.text import one_line

MAX_TEXT = 300
# In time in proportion to the text: what does not end is not looked for again from further on.
_TAG = re.compile(r"<(script|style)\b.*?(?:</\1>|\Z)|<[^<>]*+>", re.DOTALL | re.IGNORECASE)
_SHORTEST_SECRET = 4  # shorter ones would blot out ordinary words
_PROBLEMS: dict[int, tuple[Problem, str]] = {
    400: ("query_refused", "refused the query"),
    401: ("credentials_refused", "refused the credentials"),
    403: ("forbidden", "forbids it"),
    404: ("not_found", "knows no such address"),
    422: ("query_refused", "refused the query"),
}


def refusal(subject: str, status: int, text: str) -> ClusterError:
    """Return the error for an answer whose status is not 200.

    Args:
        subject: what was asked, as "<service> of <cluster>".
        status: HTTP status of the answer, not 200.
        text: what :func:`refusal_text` returned; "" for none.
    """
    suffix = f": {text}" if text else ""
    if status >= 500:
        return ServiceFailedError(f"{subject}: answered with status {status}{suffix}")
    if 300 <= status < 400:
        msg = f"{subject}: answered with a redirect ({status}), which is not followed"
        return BadResponseError(msg, problem="redirect", status=status)
    problem, words = _PROBLEMS.get(status, ("", ""))
    about = f" ({words})" if words else ""
    return BadResponseError(
        f"{subject}: answered with status {status}{about}{suffix}", problem=problem, status=status
    )


def refusal_text(body: bytes, secrets: Iterable[str]) -> str:
    """Return what a refusal's body says: one line of at most 300 characters, without secrets."""
    text = _json_error(body) or _TAG.sub(" ", body.decode("utf-8", "replace"))
    return one_line(without_secrets(text, secrets), MAX_TEXT)


def without_secrets(text: str, secrets: Iterable[str]) -> str:
    """Return a text with stars where it repeats something that must never be shown."""
    for secret in secrets:
        text = text.replace(secret, "***")
    return text


def secrets_of(headers: Mapping[str, str]) -> list[str]:
    """Return every text in the headers that must never be shown, the longest first."""
    found: set[str] = set()
    for value in headers.values():
        found.add(value)
        kind, _, rest = value.partition(" ")
        found.add(rest)
        if kind.lower() == "basic":
            found.update(_password(rest))
    return sorted((one for one in found if len(one) >= _SHORTEST_SECRET), key=len, reverse=True)


def _password(encoded: str) -> list[str]:
    try:
        pair = base64.b64decode(encoded, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return []
    return [pair, pair.partition(":")[2]]


def _json_error(body: bytes) -> str:
    """Return the error in a JSON body of the form of Prometheus or InfluxDB; else ""."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return ""
    if not isinstance(value, dict):
        return ""
    texts = [value.get(key) for key in ("error", "message")]
    return "; ".join(text for text in texts if isinstance(text, str) and text)
