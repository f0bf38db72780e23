"""What every page does first: check the user, and turn errors into error pages."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any
from urllib.parse import urlencode, urlsplit

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render, resolve_url

from metrics.query import MetricsUnavailableError
from opscenter.core.errors import ForbiddenError, NotFoundError

View = Callable[..., HttpResponse]


def page(view: View) -> View:
    """Make a view a page: signed-in users only, refusals as 404 and 403 pages.

    While the metric store is away the answer is 503; for our scripts, in one line.

    A request by a script whose session has ended is told to take the whole browser to the
    sign-in page, so that a form never shows up inside a table.
    """

    @wraps(view)
    def wrapped(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if not request.user.is_authenticated:
            return _to_sign_in(request)
        try:
            return view(request, *args, **kwargs)
        except NotFoundError as exc:
            raise Http404 from exc
        except ForbiddenError as exc:
            raise PermissionDenied(str(exc)) from exc
        except MetricsUnavailableError as exc:
            if is_fragment(request):
                return HttpResponse(str(exc), status=503, content_type="text/plain; charset=utf-8")
            return render(request, "503.html", {"why": str(exc)}, status=503)

    return wrapped


def is_fragment(request: HttpRequest) -> bool:
    """Return whether one of our scripts asks for a part of the page, not a person for all of it."""
    return request.headers.get("HX-Request") == "true" and (
        request.headers.get("HX-Boosted") != "true"
    )


def _to_sign_in(request: HttpRequest) -> HttpResponse:
    """Return a redirect to the sign-in page and back; for our scripts, a header instead."""
    target = request.get_full_path()
    by_script = request.headers.get("HX-Request") == "true"
    if by_script:
        current = urlsplit(request.headers.get("HX-Current-URL", ""))
        target = current.path + (f"?{current.query}" if current.query else "") or "/"
    url = f"{resolve_url(settings.LOGIN_URL)}?{urlencode({'next': target})}"
    if by_script:
        return HttpResponse(status=401, headers={"HX-Redirect": url})
    return HttpResponse(status=302, headers={"Location": url})
