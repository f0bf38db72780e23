"""Answers of many megabytes: sent piece by piece, and so few at once that memory is bounded.

Whoever asks for large answers and reads them slowly holds their memory until the last byte, or
until the connection's time is up. So a large answer has a place until then, and one user has few.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

from django.http import HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase

from opscenter.core.budgets import Slots

LARGE_BYTES = 512 * 1024
"""From this length on an answer is a large one."""
PIECE_BYTES = 128 * 1024
WAIT_SECONDS = 5.0
"""How long an answer that is ready waits for its place."""

LARGE_ANSWERS = Slots("large_answers", "large answers", total=6, user=2, waiting=12)

WHEN_DONE = "opscenter.when_done"
"""Key of an ASGI scope: what to call once a request is over, for whatever reason."""


def answer(
    request: Any, pieces: Iterable[bytes], *, content_type: str, user: int | None, status: int = 200
) -> HttpResponseBase:
    """Return an answer of these pieces; streamed, and with a place of its own, if it is large.

    Blocks the thread while a large answer waits for its place.

    Args:
        request: Django's request.
        pieces: the body.
        content_type: its media type.
        user: the id of whoever gets it; None for nobody who is known.
        status: HTTP status.

    Raises:
        BudgetError: it is large, and there is no place for it.
    """
    body = deque(pieces)
    length = sum(map(len, body))
    if length < LARGE_BYTES:
        return HttpResponse(b"".join(body), content_type=content_type, status=status)
    place = _Place(user)
    _when_done(request, place.close)
    response = StreamingHttpResponse(_Body(body, place), content_type=content_type, status=status)
    response.headers["Content-Length"] = str(length)
    return response


def streamed(request: Any, response: HttpResponse, user: int | None) -> HttpResponseBase:
    """Return a large answer that is in memory as one that is streamed, with all its headers.

    Raises:
        BudgetError: there is no place for it.
    """
    content = memoryview(response.content)
    pieces = (bytes(content[at : at + PIECE_BYTES]) for at in range(0, len(content), PIECE_BYTES))
    kind = response.headers.get("Content-Type", "")
    made = answer(request, pieces, content_type=kind, user=user, status=response.status_code)
    for name, value in response.headers.items():
        made.headers[name] = value
    made.headers["Content-Length"] = str(len(content))
    made.cookies = response.cookies
    return made


def _when_done(request: Any, call: Callable[[], None]) -> None:
    """Have something called once a request is over, if a server of ours serves it."""
    calls = getattr(request, "scope", {}).get(WHEN_DONE)
    if calls is not None:
        calls.append(call)


class _Place:
    """The place of one large answer."""

    def __init__(self, user: int | None) -> None:
        self._user = user
        self._hold = LARGE_ANSWERS.hold(wait_seconds=WAIT_SECONDS, user=user)
        self._hold.__enter__()
        self._held = True

    def close(self) -> None:
        """Give the place back; a second time does nothing."""
        if self._held:
            self._held = False
            self._hold.__exit__(None, None, None)


class _Body:
    """Pieces that are forgotten as they are sent; Django closes it with the response."""

    def __init__(self, pieces: deque[bytes], place: _Place) -> None:
        self._pieces = pieces
        self._place = place

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while self._pieces:
            yield self._pieces.popleft()

    def close(self) -> None:
        """Forget the rest, and give the place back."""
        self._pieces.clear()
        self._place.close()
