"""What is no news: lines, and tracebacks, that would only hide others."""

from __future__ import annotations

import logging

from django.db.utils import OperationalError


def is_no_probe(record: logging.LogRecord) -> bool:
    """Return False for Django's line about /readyz saying no: its answer names what is missing.

    A load balancer asks every few seconds, and each line would look like an error of the web.
    """
    request = getattr(record, "request", None)
    return not (
        getattr(record, "status_code", None) == 503 and getattr(request, "path", "") == "/readyz"
    )


def without_known_traceback(record: logging.LogRecord) -> bool:
    """Return True, after taking the traceback off an error that lies outside the program.

    A full disk or a database that is away says all in one line, and would else say 30 of them
    at every task until somebody has helped.
    """
    if record.exc_info and isinstance(record.exc_info[1], OperationalError):
        record.exc_info = None
        record.exc_text = None
    return True
