"""Error answers outside views: in the shape of the requested API, as pages elsewhere."""

from __future__ import annotations

import sys

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.template.loader import render_to_string
from django.views import defaults

from metrics.prometheus_api.responses import is_prometheus, prometheus_error
from opscenter.core.api import DATABASE_CODE, error_response, is_api, json_not_found
from opscenter.core.budgets import BudgetError
from opscenter.core.database import explain_trouble
from opscenter.core.log_context import current
from opscenter.pages.base import is_fragment


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    """Answer 400."""
    if is_prometheus(request):
        return prometheus_error(400, "bad_data", "the request is malformed")
    if is_api(request):
        return error_response(400, "The request is malformed.")
    return defaults.bad_request(request, exception)


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    """Answer 403."""
    if is_api(request):
        return error_response(403, "You are not allowed to do this.")
    return defaults.permission_denied(request, exception)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    """Answer 404."""
    if is_api(request):
        return json_not_found(request)
    return defaults.page_not_found(request, exception)


def server_error(request: HttpRequest) -> HttpResponse:
    """Answer 500; only the log has the reason. It is 503 in words if the database refused."""
    if trouble := explain_trouble(sys.exc_info()[1]):
        return unavailable(request, trouble)
    if is_prometheus(request):
        return prometheus_error(500, "internal", "something went wrong here; the log says what")
    if is_api(request):
        return error_response(500, "Something went wrong in Ops Center; its log says what.")
    page = render_to_string("500.html", {"request_id": current("request_id")})
    return HttpResponse(page, status=500)


def too_many(request: HttpRequest, error: BudgetError) -> HttpResponse:
    """Answer 429: what was too much, and when to come again; for our scripts, in one line."""
    response = _too_many(request, str(error))
    for name, value in error.headers().items():
        response.headers[name] = value
    return response


def _too_many(request: HttpRequest, why: str) -> HttpResponse:
    if is_prometheus(request):
        return prometheus_error(429, "unavailable", why)
    if is_api(request):
        return error_response(429, why)
    if is_fragment(request):
        return HttpResponse(why, status=429, content_type="text/plain; charset=utf-8")
    return render(request, "429.html", {"why": why}, status=429)


def unavailable(request: HttpRequest, trouble: str) -> HttpResponse:
    """Answer 503 with the reason in words; for our scripts, in one line.

    The page asks the database nothing: whose page it is does not matter to it.
    """
    if is_prometheus(request):
        return prometheus_error(503, "unavailable", trouble)
    if is_api(request):
        return error_response(503, trouble, DATABASE_CODE)
    if is_fragment(request):
        return HttpResponse(trouble, status=503, content_type="text/plain; charset=utf-8")
    context = {"title": "This cannot be done now", "why": trouble}
    return render(request, "503.html", context, status=503)
