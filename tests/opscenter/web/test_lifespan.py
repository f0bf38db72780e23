"""What a web process does from its start to its end."""

from __future__ import annotations

import asyncio
import resource
import sys
from typing import Any

import pytest
import redis

from opscenter.core.budgets import count_refusal, flush_refusals, read_refusals
from opscenter.web import lifespan as module
from opscenter.web.lifespan import lifespan, raise_open_files

pytestmark = pytest.mark.usefixtures("starts_servers")


@pytest.fixture(autouse=True)
def _databases_as_they_are(monkeypatch):
    interval = sys.getswitchinterval()
    monkeypatch.setattr(module, "limit_waits", lambda: None)
    yield
    sys.setswitchinterval(interval)


class Server:
    """The server's side of the lifespan protocol."""

    def __init__(self) -> None:
        self.messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.answers: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.task = asyncio.create_task(lifespan({}, self.messages.get, self.answers.put))

    async def tell(self, what: str) -> str:
        await self.messages.put({"type": f"lifespan.{what}"})
        return str((await self.answers.get())["type"])


async def test_what_was_refused_reaches_the_sums_of_all_while_the_process_runs(
    redis_server, monkeypatch
):
    monkeypatch.setattr(module, "FLUSH_SECONDS", 0.01)
    client = redis.Redis.from_url(redis_server)
    flush_refusals(client)  # what other tests have counted
    client.flushall()
    server = Server()
    assert await server.tell("startup") == "lifespan.startup.complete"
    count_refusal("test_while_it_runs", "user")
    async with asyncio.timeout(20):
        while not read_refusals(client):  # noqa: ASYNC110 - Redis has no event for it
            await asyncio.sleep(0.01)
    assert await server.tell("shutdown") == "lifespan.shutdown.complete"
    await server.task


async def test_what_was_refused_last_is_not_lost_with_the_process(redis_server):
    server = Server()
    await server.tell("startup")
    count_refusal("test_at_the_end", "address")
    await server.tell("shutdown")

    found = read_refusals(redis.Redis.from_url(redis_server))
    assert found["test_at_the_end", "address"] == 1


async def test_a_process_without_redis_starts_and_ends_in_order(settings):
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    count_refusal("test_without_redis", "user")
    server = Server()
    assert await server.tell("startup") == "lifespan.startup.complete"
    assert await server.tell("shutdown") == "lifespan.shutdown.complete"


async def test_a_thread_that_works_keeps_the_others_waiting_for_less_than_a_millisecond(settings):
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    server = Server()
    await server.tell("startup")
    assert sys.getswitchinterval() <= 0.001
    await server.tell("shutdown")


def test_a_process_that_may_open_too_few_files_says_so(monkeypatch, caplog):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (512, 512))
    monkeypatch.setattr(resource, "setrlimit", lambda *_: None)

    raise_open_files()

    assert "raise the limit" in caplog.text
