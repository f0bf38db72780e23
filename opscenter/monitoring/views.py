"""Is it alive, is it ready, how is it doing: for load balancers, containers and Prometheus."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest, HttpResponse, JsonResponse
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

from clusters.access import sees_all
from opscenter.core.env import is_loopback
from opscenter.monitoring.exposition import CONTENT_TYPE, exposition
from opscenter.monitoring.readiness import missing_parts, warnings
from opscenter.monitoring.shared_look import SharedLook

_look = SharedLook(lambda: (missing_parts(), warnings()))

# A request that carries one of these came through a proxy: its address proves nothing.
_FORWARDING_HEADERS = ("Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP")


def healthz(_request: HttpRequest) -> HttpResponse:
    """Answer "ok": the web process runs and takes requests. Touches nothing else."""
    return HttpResponse("ok\n", content_type="text/plain")


def readyz(_request: HttpRequest) -> JsonResponse:
    """Answer 200 if everything works, else 503; ``missing`` names what does not, and why.

    ``warnings`` has what somebody should check although it works.
    """
    missing, worth_checking = _look()
    body = {"ready": not missing, "missing": missing, "warnings": worth_checking}
    return JsonResponse(body, status=503 if missing else 200)


class MayScrape(BasePermission):
    """Users who see every cluster; on a centre that is not published, anybody on its machine."""

    message = "Give the API token of an admin, an operator or an auditor."

    def has_permission(self, request: Request, view: APIView) -> bool:  # noqa: ARG002 - DRF's
        """Return whether the request may read the figures of all clusters."""
        if request.user.is_authenticated:
            return sees_all(request.user)
        return _is_from_this_machine(request)


class _OneFormat(BaseContentNegotiation):
    """Prometheus asks for several formats by preference; there is one here."""

    def select_renderer(
        self,
        request: Request,  # noqa: ARG002 - DRF's signature
        renderers: Any,
        format_suffix: str | None = None,  # noqa: ARG002 - DRF's signature
    ) -> tuple[Any, str]:
        """Return the first renderer, which is for errors only."""
        return renderers[0], renderers[0].media_type

    def select_parser(self, request: Request, parsers: Any) -> Any:  # noqa: ARG002 - DRF's
        """Return the first parser; nothing is ever parsed."""
        return parsers[0]


class MetricsView(APIView):
    """``/metrics``: Ops Center's own figures in Prometheus's text format."""

    permission_classes = (MayScrape,)
    content_negotiation_class = _OneFormat
    schema = None  # not a part of the REST API

    def get(self, request: Request) -> HttpResponse:  # noqa: ARG002 - DRF's signature
        """Return the figures as of now."""
        return HttpResponse(exposition(), content_type=CONTENT_TYPE)


def _is_from_this_machine(request: Request) -> bool:
    """Return whether the request is from this machine, and the centre is for this machine only.

    A foreign ``Host`` may be a page in a browser of this machine, whose name was bound to it.
    """
    if not is_loopback(settings.PUBLIC_HOST):
        return False
    try:
        request.get_host()
    except DisallowedHost:
        return False
    if any(name in request.headers for name in _FORWARDING_HEADERS):
        return False
    return is_loopback(request.META.get("REMOTE_ADDR", ""))
