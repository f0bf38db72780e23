"""What a log line belongs to: the request, the cluster, the task that is being worked on.

Kept by context (:mod:`contextvars`): each request and each task has its own, and what it calls in
other threads or tasks sees the same.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from contextvars import ContextVar, Token
from types import MappingProxyType

FIELDS = ("request_id", "cluster", "task")
"""The names that a record may carry, in their order in the log."""

Bound = Token[Mapping[str, str]]
caller: ContextVar[str] = ContextVar("caller", default="")
"""The address that a request came from; "" outside of one. For limits of the log, not a field."""

_fields: ContextVar[Mapping[str, str]] = ContextVar("log fields", default=MappingProxyType({}))


def bind(**fields: str) -> Bound:
    """Add fields (of :data:`FIELDS`) to all log lines of this context; give the result to unbind.

    Raises:
        ValueError: for a field that the log does not know.
    """
    if not fields.keys() <= set(FIELDS):
        msg = f"not fields of the log: {sorted(fields.keys() - set(FIELDS))}"
        raise ValueError(msg)
    return _fields.set({**_fields.get(), **fields})


def unbind(bound: Bound) -> None:
    """Undo a :func:`bind` of the same context."""
    _fields.reset(bound)


@contextlib.contextmanager
def log_context(**fields: str) -> Iterator[None]:
    """Add fields to all log lines of a block."""
    bound = bind(**fields)
    try:
        yield
    finally:
        unbind(bound)


def current(name: str) -> str:
    """Return a field of this context; "" if it is not bound."""
    return _fields.get().get(name, "")


def stamp(record: logging.LogRecord) -> None:
    """Put this context's fields on a record, unless the caller gave its own (``extra=``)."""
    for name, value in _fields.get().items():
        if not hasattr(record, name):
            setattr(record, name, value)
