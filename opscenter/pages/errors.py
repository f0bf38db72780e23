"""Error answers outside views: in the shape of the requested API, as pages elsewhere."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.views import defaults

from metrics.prometheus_api.responses import is_prometheus, prometheus_error
from opscenter.core.api import error_response, is_api, json_not_found


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
    """Answer 500; only the log has the reason."""
    if is_prometheus(request):
        return prometheus_error(500, "internal", "something went wrong here; the log says what")
    if is_api(request):
        return error_response(500, "Something went wrong in Ops Center; its log says what.")
    return defaults.server_error(request)
