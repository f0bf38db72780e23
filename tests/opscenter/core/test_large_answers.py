"""Large answers have places, so that those who read slowly hold bounded memory."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from asgiref.sync import iscoroutinefunction
from django.http import HttpResponse
from django.test import RequestFactory

from opscenter.core import large_answers
from opscenter.core.budgets import BudgetError
from opscenter.core.large_answers import LARGE_ANSWERS, LARGE_BYTES, WHEN_DONE, answer, streamed
from opscenter.web.middleware import large_answers as middleware

pytestmark = pytest.mark.django_db  # the end of an answer closes old connections
LARGE = [b"x" * 1000] * (LARGE_BYTES // 1000 + 1)


def request() -> Any:
    return SimpleNamespace(scope={WHEN_DONE: []})


def large(user: int, asked: Any = None) -> Any:
    return answer(asked or request(), LARGE, content_type="text/plain", user=user)


@pytest.fixture(autouse=True)
def _no_patience(monkeypatch):
    monkeypatch.setattr(large_answers, "WAIT_SECONDS", 0.0)
    assert LARGE_ANSWERS.used == 0
    yield
    assert LARGE_ANSWERS.used == 0


async def test_a_large_answer_is_sent_whole_and_holds_its_place_until_it_is_closed() -> None:
    made = large(1)

    assert LARGE_ANSWERS.held("user", 1) == 1
    assert b"".join([piece async for piece in made]) == b"".join(LARGE)
    assert made["Content-Length"] == str(sum(map(len, LARGE)))
    made.close()


def test_the_end_of_the_request_gives_the_place_back_once() -> None:
    asked = request()
    made = large(1, asked)

    for call in asked.scope[WHEN_DONE]:  # the peer left: Django closes nothing
        call()
    made.close()


def test_one_user_has_few_and_another_one_has_one_meanwhile() -> None:
    held = [large(1) for _ in range(LARGE_ANSWERS.shares["user"])]

    with pytest.raises(BudgetError) as refused:
        large(1)
    assert refused.value.by == "user"
    held.append(large(2))
    for each in held:
        each.close()


def test_what_is_not_large_needs_no_place() -> None:
    held = [large(1) for _ in range(LARGE_ANSWERS.shares["user"])]

    made = answer(request(), [b"a", b"b"], content_type="text/plain", user=1)

    assert (made.streaming, made.content) == (False, b"ab")
    for each in held:
        each.close()


async def test_an_answer_in_memory_keeps_its_headers_and_status() -> None:
    whole = HttpResponse(b"".join(LARGE), status=203, content_type="text/csv")
    whole["Content-Disposition"] = "attachment"
    whole.set_cookie("a", "b")

    made = streamed(request(), whole, 1)

    assert (made.status_code, made["Content-Type"]) == (203, "text/csv")
    assert made["Content-Disposition"] == "attachment"
    assert made.cookies["a"].value == "b"
    assert b"".join([piece async for piece in made]) == whole.content
    made.close()


@pytest.mark.parametrize(("path", "says"), [("/api/v1/x", b"throttled"), ("/x", b"large answers")])
def test_every_large_answer_of_a_view_has_a_place_or_is_429(path: str, says: bytes) -> None:
    def view(_: object) -> HttpResponse:
        return HttpResponse(b"".join(LARGE))

    serve: Callable[[Any], Any] = middleware(view)

    def ask() -> Any:
        asked = RequestFactory().get(path, headers={"hx-request": "true"})
        asked.user = SimpleNamespace(pk=7)
        return serve(asked)

    held = [ask() for _ in range(LARGE_ANSWERS.shares["user"])]
    refused = ask()

    assert refused.status_code == 429
    assert says in refused.content
    for each in held:
        assert each.streaming
        each.close()


def test_no_middleware_of_ours_takes_a_thread_more_for_each_request() -> None:
    async def view(_: object) -> HttpResponse:
        return HttpResponse(b"")

    assert iscoroutinefunction(middleware(view))
