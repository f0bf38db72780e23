"""Middleware of the web process."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any, cast

from asgiref.sync import iscoroutinefunction, sync_to_async
from django.contrib.sessions.middleware import SessionMiddleware as DjangoSessionMiddleware
from django.http import HttpRequest, HttpResponse, HttpResponsePermanentRedirect
from django.http.response import HttpResponseBase
from django.middleware.common import CommonMiddleware as DjangoCommonMiddleware
from django.shortcuts import render
from django.urls import get_resolver
from django.utils.decorators import sync_and_async_middleware
from django.utils.deprecation import MiddlewareMixin
from whitenoise.middleware import WhiteNoiseMiddleware
from whitenoise.responders import StaticFile

from opscenter.core.budgets import BudgetError
from opscenter.core.database import best_effort, explain_trouble
from opscenter.core.encryption import SealBrokenError
from opscenter.core.large_answers import LARGE_BYTES, streamed
from opscenter.web.sessions import SessionStore, is_changed

logger = logging.getLogger(__name__)

NO_STORE = "private, no-store"
MACHINE_PATHS = frozenset({"/healthz", "/readyz", "/metrics"})
"""Answered whatever the ``Host`` header says; none of them builds an address from it."""
READING_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class StaticFilesMiddleware(WhiteNoiseMiddleware):  # type: ignore[misc] # it has no types
    """WhiteNoise, answering with whole files.

    It streams from an open file, which Django under ASGI reads whole anyway, with a warning.
    """

    @staticmethod
    def serve(static_file: StaticFile, request: HttpRequest) -> HttpResponse:
        """Return the response to a request for a static file."""
        streamed = WhiteNoiseMiddleware.serve(static_file, request)
        response = HttpResponse(b"".join(streamed), status=streamed.status_code)
        del response.headers["Content-Type"]  # a 304 has none
        for name, value in streamed.headers.items():
            response.headers[name] = value
        streamed.close()
        return response


class SessionMiddleware(DjangoSessionMiddleware):
    """Django's, whose sessions are best effort in requests that only read.

    A page that is only looked at is shown although its session cannot be stored; whoever signs in
    or out is told.
    """

    def process_request(self, request: HttpRequest) -> None:
        """Give the request its session."""
        super().process_request(request)
        session = cast("SessionStore", request.session)
        session.strict = request.method not in READING_METHODS

    def process_response(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        """Store the session if it changed, and set its cookie."""
        if getattr(request.session, "strict", True) or not is_changed(request.session):
            return super().process_response(request, response)
        # Errors leave the response without a cookie: the browser keeps what it has.
        store = partial(super().process_response, request, response)
        best_effort("a change of a session", store)
        return response


class BudgetMiddleware(MiddlewareMixin):
    """Answers 429 in words where a page asked for more than its share."""

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """Return the answer of the routes' ``handler429``; None for an error of another kind."""
        if not isinstance(exception, BudgetError):
            return None
        handler = cast("Callable[..., HttpResponse]", get_resolver().resolve_error_handler(429))
        return handler(request, exception)


class DatabaseTroubleMiddleware(MiddlewareMixin):
    """Answers 503 in words where a view needed the database and it refused."""

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """Return the answer of the routes' ``handler503``; None for an error of another kind."""
        trouble = explain_trouble(exception)
        if not trouble:
            return None
        handler = cast("Callable[..., HttpResponse]", get_resolver().resolve_error_handler(503))
        return handler(request, trouble)


class CommonMiddleware(DjangoCommonMiddleware):
    """Django's, which refuses foreign ``Host`` headers, but not on the paths for machines.

    Probes of containers, load balancers and Prometheus ask by an address.
    """

    def process_request(self, request: HttpRequest) -> HttpResponsePermanentRedirect | None:
        """Check the host and the form of the path."""
        return None if request.path in MACHINE_PATHS else super().process_request(request)


class LostSecretMiddleware(MiddlewareMixin):
    """Answers in words where a page needs a secret whose key is gone, such as a second factor."""

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """Return a page that says what to do; None for an error of another kind."""
        if not isinstance(exception, SealBrokenError):  # the API answers its own
            return None
        logger.warning("a secret cannot be read on %s: %s", request.path, exception)
        return render(request, "secret_lost.html", {"why": str(exception)}, status=503)


@sync_and_async_middleware
def no_store(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    """Forbid caches to store what a view answers: nearly all of it belongs to one tenant.

    Static files never get here: WhiteNoise answers them first and sets their lifetime.
    """
    if iscoroutinefunction(get_response):

        async def answer_later(request: HttpRequest) -> HttpResponseBase:
            return _forbid(await get_response(request))

        return answer_later

    def answer(request: HttpRequest) -> HttpResponseBase:
        return _forbid(get_response(request))

    return answer


def _forbid(response: HttpResponseBase) -> HttpResponseBase:
    response.headers["Cache-Control"] = NO_STORE
    return response


@sync_and_async_middleware
def large_answers(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    """Middleware: what is large is sent piece by piece, and few of them to one user at once.

    Asynchronous as the handler is: otherwise each request would hold a thread more while its view
    waits for the event loop.
    """
    if iscoroutinefunction(get_response):

        async def answer_later(request: HttpRequest) -> HttpResponseBase:
            response: HttpResponseBase = await get_response(request)
            if not isinstance(response, HttpResponse) or not _is_large(response):
                return response
            return await sync_to_async(_in_pieces)(request, response)

        return answer_later

    def answer(request: HttpRequest) -> HttpResponseBase:
        response: HttpResponseBase = get_response(request)
        if not isinstance(response, HttpResponse) or not _is_large(response):
            return response
        return _in_pieces(request, response)

    return answer


def _is_large(response: HttpResponse) -> bool:
    return len(response.content) >= LARGE_BYTES


def _in_pieces(request: HttpRequest, response: HttpResponse) -> HttpResponseBase:
    """Return a large answer as one that is streamed, or 429 if there is no place for it."""
    user = getattr(request, "user", None)
    try:
        return streamed(request, response, getattr(user, "pk", None))
    except BudgetError as exc:
        handler = cast("Callable[..., HttpResponse]", get_resolver().resolve_error_handler(429))
        return handler(request, exc)
