"""What every REST endpoint shares: one error shape and one pagination.

An error reads ``{"error": {"code": "...", "message": "...", "fields": {...}}}``; ``fields`` names
the offending input fields and is empty where there are none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from io import BytesIO
from typing import IO, Any

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from rest_framework import exceptions, pagination, serializers, status
from rest_framework.parsers import JSONParser
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import exception_handler as drf_exception_handler

from opscenter.core.budgets import BudgetError
from opscenter.core.database import explain_trouble
from opscenter.core.errors import OpsCenterError
from opscenter.core.log_context import current

_CODES = {
    status.HTTP_400_BAD_REQUEST: "invalid",
    status.HTTP_401_UNAUTHORIZED: "not_authenticated",
    status.HTTP_403_FORBIDDEN: "forbidden",
    status.HTTP_404_NOT_FOUND: "not_found",
    status.HTTP_405_METHOD_NOT_ALLOWED: "method_not_allowed",
    status.HTTP_406_NOT_ACCEPTABLE: "not_acceptable",
    status.HTTP_413_REQUEST_ENTITY_TOO_LARGE: "too_large",
    status.HTTP_415_UNSUPPORTED_MEDIA_TYPE: "unsupported_media_type",
    status.HTTP_429_TOO_MANY_REQUESTS: "throttled",
}

DATABASE_CODE = "database_unavailable"

MAX_BODY_BYTES = 256 * 1024
_LAST_PAGE = 1_000_000


def error_body(code: str, message: str, fields: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the one error shape."""
    return {"error": {"code": code, "message": message, "fields": fields or {}}}


def with_request_id(body: dict[str, Any]) -> dict[str, Any]:
    """Return an error body with the request's id, for failures of ours: the log has the rest.

    Refusals have it in their header only, so that two that must look the same do.
    """
    request_id = current("request_id")
    return {"error": {**body["error"], "request_id": request_id}} if request_id else body


def exception_handler(exc: Exception, context: dict[str, Any]) -> Response | None:
    """Turn an exception of a REST view into the one error shape; None for a bug, which is a 500."""
    if trouble := explain_trouble(exc):
        return Response(with_request_id(error_body(DATABASE_CODE, trouble)), status=503)
    if isinstance(exc, BudgetError):
        body = error_body(exc.code, str(exc))
        return Response(body, status=exc.http_status, headers=exc.headers())
    if isinstance(exc, OpsCenterError):
        body = error_body(exc.code, str(exc))
        if exc.http_status >= 500:
            body = with_request_id(body)
        return Response(body, status=exc.http_status)
    response = drf_exception_handler(exc, context)
    if response is None:
        return None
    code = _CODES.get(response.status_code, "error")
    fields: dict[str, Any] = {}
    if isinstance(exc, exceptions.ValidationError):
        message = "Some fields are not valid."
        fields = exc.detail if isinstance(exc.detail, dict) else {"non_field_errors": exc.detail}
    elif isinstance(exc, Http404):
        message = "Not found."
    elif isinstance(exc, PermissionDenied):
        message = "You are not allowed to do this."
    else:
        message = str(getattr(exc, "detail", exc))
    response.data = error_body(code, message, fields)
    return response


def is_api(request: HttpRequest) -> bool:
    """Return whether the request is answered in the API's shape, not as a page."""
    return request.path.startswith("/api/")


def error_response(http_status: int, message: str, code: str = "") -> HttpResponse:
    """Return the one error shape outside a REST view, byte for byte as a view would."""
    body = error_body(code or _CODES.get(http_status, "error"), message)
    content = JSONRenderer().render(with_request_id(body) if http_status >= 500 else body)
    return HttpResponse(content, status=http_status, content_type="application/json")


def json_not_found(request: HttpRequest) -> HttpResponse:
    """Answer 404 in the one error shape for a path below /api/ that does not exist."""
    del request
    return error_response(404, "Not found.")


class BoundedJSONParser(JSONParser):
    """JSON of at most :data:`MAX_BODY_BYTES`; Django's own limit does not reach DRF's parsers."""

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        """Return the decoded body.

        Raises:
            BodyTooLarge: if it is larger.
            ParseError: if it is not JSON, is nested too deeply, or holds NaN or an infinity.
        """
        content = stream.read(MAX_BODY_BYTES + 1)
        if len(content) > MAX_BODY_BYTES:
            raise BodyTooLarge
        try:
            return super().parse(BytesIO(content), media_type, parser_context)
        except RecursionError as exc:
            raise exceptions.ParseError("The JSON is nested too deeply.") from exc


class BodyTooLarge(exceptions.APIException):
    """The body is larger than any request needs."""

    status_code = status.HTTP_413_REQUEST_ENTITY_TOO_LARGE
    default_detail = f"The body is larger than {MAX_BODY_BYTES} bytes."


class PageNumberPagination(pagination.PageNumberPagination):
    """Pages of 50 by default, ``?page_size=`` up to 500: count, next, previous, results.

    A number out of range is refused, not silently replaced by another one.
    """

    page_size = 50
    page_size_query_param = "page_size"
    max_page_size = 500

    def get_page_size(self, request: Request) -> int:
        """Return the number of items per page.

        Raises:
            ValidationError: if ``page_size`` or ``page`` is no number in its range.
        """
        whole_number(request, "page", 1, low=1, high=_LAST_PAGE)
        return whole_number(request, "page_size", self.page_size, low=1, high=self.max_page_size)

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        """Return the two parameters with their ranges."""
        ranges = {
            "page": {"minimum": 1, "maximum": _LAST_PAGE},
            "page_size": {"minimum": 1, "maximum": self.max_page_size},
        }
        parameters = super().get_schema_operation_parameters(view)
        for parameter in parameters:
            parameter["schema"] |= ranges[parameter["name"]]
        return list(parameters)


def whole_number(request: Request, name: str, default: int, *, low: int, high: int) -> int:
    """Return a query parameter as a whole number; ``default`` if it is not given.

    Raises:
        ValidationError: if it is given and is no whole number in ``low..high``.
    """
    text = request.query_params.get(name)
    if text is None:
        return default
    if not re.fullmatch(r"-?[0-9]{1,18}", text) or not low <= int(text) <= high:
        raise exceptions.ValidationError({name: [f"Use a whole number in {low}..{high}."]})
    return int(text)


class StrictCharField(serializers.CharField):
    """Text; a number or a boolean is refused instead of turned into text."""

    def to_internal_value(self, data: Any) -> str:
        """Return the text.

        Raises:
            ValidationError: if it is not a JSON string.
        """
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)
