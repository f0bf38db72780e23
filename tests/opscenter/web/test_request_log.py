"""Each request has an id, in its answer and its log lines; the access log holds no secrets."""

from __future__ import annotations

import asyncio
import logging
import urllib.request
from typing import Any

import pytest
import rest_framework.views  # noqa: F401 - it must be loaded before opscenter.core.api
import uvicorn
from asgiref.sync import sync_to_async

from opscenter.core.api import error_response
from opscenter.core.log_context import current, stamp
from opscenter.web.http_protocol import BoundedProtocol
from opscenter.web.request_log import PROXY_STATE, RequestLog, path_for_log

CLUSTER = "5c64388f-8e33-4d56-89fc-1d3a381bae07"


def scope(path: str = "/", *headers: tuple[bytes, bytes], trusted: bool = False) -> dict[str, Any]:
    return {
        "type": "http", "method": "GET", "path": path, "query_string": b"token=opc_secret",
        "headers": list(headers), "client": ("192.0.2.7", 5000),
        "state": {PROXY_STATE: True} if trusted else {},
    }  # fmt: skip


async def ask(scope: dict[str, Any], *, write_access: bool = False, body: Any = None) -> list[Any]:
    """Return what is sent for a request to an application that logs a line."""
    sent = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await sync_to_async(logging.getLogger("test.view").info)("serving")
        await send({"type": "http.response.start", "status": 201, "headers": [(b"a", b"b")]})
        await send({"type": "http.response.body", "body": b"good"})

    async def send(message: Any) -> None:
        sent.append(message)

    await RequestLog(body or application, write_access=write_access)(scope, None, send)
    return sent


def id_of(sent: list[Any]) -> str:
    (value,) = [value for name, value in sent[0]["headers"] if name == b"x-request-id"]
    return value.decode()


@pytest.fixture
def log(caplog) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO)
    add = logging.Filter()
    add.filter = lambda record: stamp(record) or True  # as our handler does
    caplog.handler.addFilter(add)
    return caplog


async def test_an_answer_and_its_log_lines_have_one_new_id(log):
    first, second = id_of(await ask(scope())), id_of(await ask(scope()))
    assert first != second
    assert [one.request_id for one in log.records] == [first, second]
    assert current("request_id") == ""


async def test_lines_of_a_clusters_page_name_the_cluster(log):
    await ask(scope(f"/api/v1/clusters/{CLUSTER}/range"))
    await ask(scope("/api/v1/clusters/not-an-id/"))
    assert [getattr(one, "cluster", None) for one in log.records] == [CLUSTER, None]


@pytest.mark.parametrize("given", [b"abc-123", b"A.b_c-9", b"x" * 64])
async def test_a_trusted_proxys_id_is_taken(given):
    assert id_of(await ask(scope("/", (b"x-request-id", given), trusted=True))) == given.decode()


@pytest.mark.parametrize(
    "given", [b"", b"x" * 65, b"a b", b"a\nb", b"a;b", b"\xff", "\u0661".encode(), b"<script>"]
)
async def test_an_id_that_could_break_a_line_is_replaced(given):
    got = id_of(await ask(scope("/", (b"x-request-id", given), trusted=True)))
    assert len(got) == 32
    assert got.isalnum()


async def test_two_ids_are_none():
    headers = [(b"x-request-id", b"one"), (b"x-request-id", b"two")]
    assert id_of(await ask(scope("/", *headers, trusted=True))) not in ("one", "two")


async def test_a_strangers_id_is_not_taken():
    assert id_of(await ask(scope("/", (b"x-request-id", b"mine")))) != "mine"


async def test_a_socket_gets_one_too():
    async def accept(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})

    assert len(id_of(await ask(scope() | {"type": "websocket"}, body=accept))) == 32


async def test_a_failure_of_ours_names_its_request_in_the_body_and_a_refusal_does_not():
    bodies: list[bytes] = []

    async def fail(scope: Any, receive: Any, send: Any) -> None:
        bodies.extend(error_response(status, "No.").content for status in (500, 404))
        await send({"type": "http.response.start", "status": 500, "headers": []})

    got = id_of(await ask(scope(), body=fail))
    assert f'"request_id":"{got}"'.encode() in bodies[0]
    assert b"request_id" not in bodies[1]


async def test_there_is_no_access_log_unless_it_is_asked_for(log):
    await ask(scope())
    assert [one.name for one in log.records] == ["test.view"]


async def test_the_access_log_has_a_line_with_fields_and_no_query(log):
    sent = await ask(scope("/fleet/"), write_access=True)
    line = log.records[-1]
    assert line.name == "opscenter.access"
    assert line.request_id == id_of(sent)
    milliseconds = line.fields.pop("milliseconds")
    assert line.fields == {
        "method": "GET", "path": "/fleet/", "status": 201, "bytes": 4, "address": "192.0.2.7",
    }  # fmt: skip
    assert line.getMessage() == (f"GET /fleet/ 201, 4 bytes in {milliseconds} ms, for 192.0.2.7")


async def test_a_request_that_fails_is_in_the_access_log_as_unanswered(log):
    async def fail(scope: Any, receive: Any, send: Any) -> None:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await ask(scope(), write_access=True, body=fail)
    assert "without an answer" in log.records[-1].getMessage()


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/join/ocj_secretsecret", "/join/..."),
        ("/join/a/b?c", "/join/..."),
        (f"/clusters/{CLUSTER}/join/", f"/clusters/{CLUSTER}/join/"),
        ("/x/opc_0123abc/y", "/x/.../y"),
        ("/x/ocj_AbC-_1/y", "/x/.../y"),
        ("/confirm-email/Mg4Yx8KqPz0aTr5vWc2N/", "/confirm-email/.../"),
        ("/x/0123456789abcdef0123456789abcdef", "/x/..."),
        (f"/clusters/{CLUSTER}/pods/kube-system/coredns-5d78c9869d-abcde/",) * 2,
        ("/static/css/base.css",) * 2,
        ("/" + "x" * 500, "/" + "x" * 199 + "..."),
    ],
)
def test_paths_are_shown_without_what_may_be_a_secret(path, shown):
    assert path_for_log(path) == shown


async def served(settings, *proxies: str) -> str:
    """Return the id that a real server answers with when a client gives its own."""
    settings.TRUSTED_PROXIES = list(proxies)
    seen: list[Any] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["client"][0])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"good"})

    config = uvicorn.Config(
        RequestLog(application), port=0, http=BoundedProtocol, lifespan="off",
        log_level="critical", forwarded_allow_ips=",".join(proxies), proxy_headers=True,
    )  # fmt: skip
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/",
        headers={"X-Request-ID": "from-the-proxy", "X-Forwarded-For": "198.51.100.9"},
    )
    with await asyncio.to_thread(urllib.request.urlopen, request) as answer:
        headers = answer.headers
    server.should_exit = True
    await task
    assert seen == ["198.51.100.9" if proxies else "127.0.0.1"]
    return headers["X-Request-ID"]


@pytest.mark.usefixtures("starts_servers")
async def test_a_server_takes_the_id_from_the_proxies_it_trusts_and_nobody_else(settings):
    assert await served(settings, "127.0.0.1") == "from-the-proxy"
    assert await served(settings) != "from-the-proxy"
