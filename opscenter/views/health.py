"""Is it alive, is it ready: for load balancers, containers and the supervisor."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse


def healthz(_request: HttpRequest) -> HttpResponse:
    """Answer "ok": the web process runs and takes requests. Touches nothing else."""
    return HttpResponse("ok\n", content_type="text/plain")
