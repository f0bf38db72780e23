"""One address has its share of requests and of unknown sockets, and no more."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from opscenter.core.budgets import peer_group
from opscenter.core.large_answers import WHEN_DONE
from opscenter.web.shares import (
    FEW_REQUESTS,
    REQUESTS,
    UNKNOWN_SOCKETS,
    RequestShare,
    SocketShare,
    tell_known,
)


class Waiting:
    """An application that answers when it is told to."""

    def __init__(self, *, knows: bool = False) -> None:
        self.release = asyncio.Event()
        self.knows = knows
        self.scopes: list[Any] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        if self.knows:
            tell_known(scope)
        await self.release.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})


class Client:
    """What one peer hears."""

    def __init__(self, share: Any, address: str, path: str = "/") -> None:
        self.heard: list[dict[str, Any]] = []
        scope = {"path": path, "client": (address, 1), "headers": []}
        self.task = asyncio.create_task(share(scope, None, self.hear))

    async def hear(self, message: dict[str, Any]) -> None:
        self.heard.append(message)

    @property
    def status(self) -> int | None:
        return self.heard[0]["status"] if self.heard else None


async def clients(share: Any, number: int, address: str, path: str = "/") -> list[Client]:
    made = [Client(share, address, path) for _ in range(number)]
    await asyncio.sleep(0)
    return made


class Endless:
    """What a server gives of a body that goes on for ever: one piece, and then nothing."""

    def __init__(self) -> None:
        self.given = False

    async def __call__(self) -> Any:
        if self.given:
            await asyncio.Event().wait()
        self.given = True
        return {"type": "http.request", "body": b"x", "more_body": True}


def posting(address: str) -> dict[str, Any]:
    headers = [(b"content-length", b"2000000")]
    return {"path": "/accounts/login/", "client": (address, 1), "headers": headers}


async def whole_body() -> Any:
    return {"type": "http.request", "body": b"x"}


async def ignore(message: Any) -> None:
    del message


async def end(application: Waiting, *them: Client) -> None:
    application.release.set()
    await asyncio.gather(*(one.task for one in them))


async def test_one_address_has_a_share_of_requests_and_another_is_answered() -> None:
    application = Waiting()
    share = RequestShare(application)
    held = await clients(share, REQUESTS.shares["address"], "192.0.2.1")

    [refused] = await clients(share, 1, "192.0.2.1", "/api/v1/clusters/")
    [other] = await clients(share, 1, "192.0.2.2")
    [probe] = await clients(share, 1, "192.0.2.1", "/healthz")

    assert refused.status == 429
    assert (b"retry-after", b"2") in refused.heard[0]["headers"]
    assert b'"throttled"' in refused.heard[1]["body"]
    await end(application, *held, other, probe)
    assert [one.status for one in (*held, other, probe)] == [200] * (len(held) + 2)
    assert REQUESTS.used == 0


async def test_a_dozen_addresses_that_hold_all_they_can_leave_places_for_others() -> None:
    application = Waiting()
    share = RequestShare(application)
    asked = [
        one
        for number in range(12)
        for one in await clients(share, REQUESTS.shares["address"], f"192.0.2.{number}")
    ]
    others = [
        one
        for number in range(5)
        for one in await clients(share, FEW_REQUESTS, f"198.51.100.{number}")
    ]

    assert [one.status for one in others] == [None] * len(others)  # they are being answered
    await end(application, *asked, *others)
    assert REQUESTS.used == 0


async def test_bodies_that_never_end_use_up_no_requests_of_others() -> None:
    begun = asyncio.Event()

    async def reads_all(scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            begun.set()
        await send({"type": "http.response.start", "status": 200, "headers": []})

    share = RequestShare(reads_all)
    slow = [
        asyncio.create_task(share(posting(f"192.0.2.{n % 8}"), Endless(), ignore))
        for n in range(REQUESTS.total + 8)
    ]
    await begun.wait()
    heard: list[Any] = []

    async def hear(message: Any) -> None:
        heard.append(message)

    await share(posting("198.51.100.1"), whole_body, hear)

    assert heard[0]["status"] == 200
    for one in slow:
        one.cancel()
    await asyncio.gather(*slow, return_exceptions=True)
    assert REQUESTS.used == 0


async def test_a_body_that_is_here_when_the_share_is_used_up_is_refused_once() -> None:
    application = Waiting()
    share = RequestShare(application)
    held = await clients(share, REQUESTS.shares["address"], "192.0.2.1")
    heard: list[Any] = []

    async def hear(message: Any) -> None:
        heard.append(message)

    async def answers_whatever_it_hears(scope: Any, receive: Any, send: Any) -> None:
        assert (await receive())["type"] == "http.disconnect"
        await send({"type": "http.response.start", "status": 200, "headers": []})

    await RequestShare(answers_whatever_it_hears)(posting("192.0.2.1"), whole_body, hear)

    assert [one.get("status") for one in heard] == [429, None]
    await end(application, *held)
    assert REQUESTS.used == 0


async def test_two_addresses_of_a_host_have_one_share() -> None:
    application = Waiting()
    share = RequestShare(application)
    held = await clients(share, REQUESTS.shares["address"], "2001:db8::1")

    [refused] = await clients(share, 1, "2001:db8::2")

    assert peer_group("2001:db8::1") == peer_group("2001:db8::2")
    assert refused.status == 429
    await end(application, *held)


async def test_what_has_to_be_done_after_a_request_is_done_also_if_the_peer_left() -> None:
    application = Waiting()
    done: list[str] = []
    [one] = await clients(RequestShare(application), 1, "192.0.2.1")
    application.scopes[0][WHEN_DONE].append(lambda: done.append("given back"))
    one.task.cancel()
    await asyncio.gather(one.task, return_exceptions=True)

    assert done == ["given back"]
    assert REQUESTS.used == 0


async def test_the_seventeenth_unknown_socket_of_an_address_is_refused_before_the_upgrade() -> None:
    application = Waiting()
    share = SocketShare(application)
    held = await clients(share, UNKNOWN_SOCKETS.shares["address"], "192.0.2.1")

    [refused] = await clients(share, 1, "192.0.2.1")
    [other] = await clients(share, 1, "192.0.2.2")

    assert len(held) == 16
    assert refused.heard[0]["type"] == "websocket.http.response.start"
    assert refused.status == 429
    assert other.status is None  # it is being served
    await end(application, *held, other)
    assert UNKNOWN_SOCKETS.used == 0


async def test_a_socket_whose_user_is_known_counts_no_more() -> None:
    application = Waiting(knows=True)
    share = SocketShare(application)
    held = await clients(share, 40, "192.0.2.1")

    assert len(application.scopes) == 40
    assert UNKNOWN_SOCKETS.used == 0
    await end(application, *held)
    assert UNKNOWN_SOCKETS.used == 0


@pytest.mark.parametrize("client", [None, ("", 0)])
async def test_a_peer_without_an_address_has_no_share(client) -> None:
    application = Waiting()
    application.release.set()
    heard: list[Any] = []

    async def send(message: Any) -> None:
        heard.append(message)

    await RequestShare(application)({"path": "/", "client": client, "headers": []}, None, send)
    assert heard[0]["status"] == 200
