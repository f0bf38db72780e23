"""Filters for log lines and tracebacks that would only hide others."""

from __future__ import annotations

import logging

from django.db.utils import OperationalError


def is_no_probe(record: logging.LogRecord) -> bool:
    """Return False for Django's line about a 503 of /readyz: its answer names what is missing.

    A load balancer asks every few seconds, and each line would look like an error of the web
    process.
    """
    request = getattr(record, "request", None)
    return not (
        getattr(record, "status_code", None) == 503 and getattr(request, "path", "") == "/readyz"
    )


def without_known_traceback(record: logging.LogRecord) -> bool:
    """Return True, after removing the traceback of an error outside the program.

    One line says all about a full disk or a database that is away; a traceback would add 30 more
    for every task until somebody fixes it.
    """
    if record.exc_info and isinstance(record.exc_info[1], OperationalError):
        record.exc_info = None
        record.exc_text = None
    return True
