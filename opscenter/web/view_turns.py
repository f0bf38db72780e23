"""Views take turns by user and by address: the interpreter works on one thing at a time.

Requests that are worked on at once share its time, so whoever asks for sixty pages at once would
make everybody else's sixty times as slow. Here only a few are worked on at once, of one caller two,
and the others wait in their threads, in turn.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from typing import Any, cast

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.contrib.auth import SESSION_KEY
from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import get_resolver

from opscenter.core.budgets import BudgetError, Slots, peer_group
from opscenter.core.turns import set_turn
from opscenter.web.middleware import MACHINE_PATHS

VIEWS = Slots(
    "views", "requests that are worked on", total=8, caller=2, address=4,
    waiting=256, waiting_each=64,
)  # fmt: skip
WAIT_SECONDS = 20.0


class ViewTurnMiddleware:
    """Lets a view begin when it is its caller's turn, and ends the turn with its answer.

    The answer itself is sent without one: whoever reads slowly holds no turn.
    """

    sync_capable = async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self._get_response = get_response
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        """Answer a request."""
        if self._is_async:
            return self._answer_later(request)
        try:
            return cast("HttpResponseBase", self._get_response(request))
        finally:
            _end(request)

    def process_view(self, request: HttpRequest, *_: Any) -> HttpResponse | None:
        """Wait for the turn, in the request's own thread; return 429 where there is none."""
        if request.path in MACHINE_PATHS:
            return None
        stack = ExitStack()
        try:
            stack.enter_context(
                VIEWS.hold(
                    wait_seconds=WAIT_SECONDS,
                    caller=_caller(request),
                    address=peer_group(str(request.META.get("REMOTE_ADDR", ""))) or None,
                )
            )
        except BudgetError as exc:
            handler = cast("Callable[..., HttpResponse]", get_resolver().resolve_error_handler(429))
            return handler(request, exc)
        request._view_turn = stack  # type: ignore[attr-defined]
        set_turn(stack.close)
        return None

    async def _answer_later(self, request: HttpRequest) -> HttpResponseBase:
        try:
            return cast("HttpResponseBase", await self._get_response(request))
        finally:
            _end(request)


def _end(request: HttpRequest) -> None:
    """End a request's turn if it has one that has not ended."""
    stack: ExitStack | None = getattr(request, "_view_turn", None)
    if stack is not None:
        stack.close()


def _caller(request: HttpRequest) -> str | None:
    """Return who asks: a user by the session, or a token; None for strangers.

    A token is not checked yet. One that is made up is a caller of its own; its address has a share.
    """
    authorization: str | bytes = request.headers.get("Authorization", "")  # bytes in some tests
    if authorization:
        sent = authorization if isinstance(authorization, bytes) else authorization.encode()
        return f"token {hashlib.sha256(sent).hexdigest()}"
    try:
        user = request.session.get(SESSION_KEY)
    except DatabaseError:  # the view says so in words
        return None
    return None if user is None else f"user {user}"
