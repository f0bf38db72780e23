"""What stays out of the log."""

from __future__ import annotations

import logging

import pytest
from django.db.utils import OperationalError
from django.http import HttpResponse
from django.test import RequestFactory
from django.utils.log import log_response


@pytest.mark.parametrize(("path", "lines"), [("/readyz", 0), ("/clusters/add/", 1)])
def test_a_readiness_probe_that_gets_a_503_is_not_an_error_of_the_web(caplog, path, lines):
    caplog.set_level(logging.INFO, "django.request")
    request, response = RequestFactory().get(path), HttpResponse(status=503)
    log_response("Service Unavailable: %s", path, response=response, request=request)
    assert len(caplog.messages) == lines


@pytest.mark.parametrize(
    ("error", "traceback"),
    [(OperationalError("database or disk is full"), False), (KeyError("a mistake of ours"), True)],
)
def test_a_full_disk_needs_no_traceback_and_a_mistake_does(caplog, error, traceback):
    try:
        raise error
    except (OperationalError, KeyError) as exc:
        logging.getLogger("celery.app.trace").exception("Task raised: %r", exc)
    assert "Task raised" in caplog.text
    assert ("Traceback" in caplog.text) is traceback
