"""What a hostile answer costs: at most the deadline and the cap, and it is reported with its
reason."""

from __future__ import annotations

import asyncio
import base64
import gzip
import ssl
import zlib
from dataclasses import replace
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from clusters.tunnel.client.http_client import ClusterClient
from clusters.tunnel.client.tls import TlsIdentity
from opscenter.core.errors import (
    BadResponseError,
    ConsentOffError,
    GatewayDownError,
    InvalidInputError,
    ServiceUnavailableError,
)
from tests.agent.tls import make_tls
from tests.clusters.tunnel.conftest import (
    LIMITS,
    Target,
    asyncssh_agent,
    client,
    counted,
    get_json,
    make_identity,
    running_hub,
    serving,
    until,
)

JSON = "Content-Type: application/json"
GZIP = "Content-Encoding: gzip"


async def test_a_compressed_answer_is_inflated(tunnel, identity, target):
    target.set("/gzip", gzip.compress(b'{"n": 1}'), headers=[JSON, GZIP])
    target.set("/deflate", zlib.compress(b'{"n": 2}'), headers=[JSON, "Content-Encoding: deflate"])
    assert await get_json(identity, "/gzip") == {"n": 1}
    assert await get_json(identity, "/deflate") == {"n": 2}


async def test_parameters_reach_the_service(tunnel, identity, target):
    async with client(identity) as one:
        await one.get_json("/hello", {"start": "60", "kinds": "node,pod"})
    assert target.requests[-1] in (
        "/hello?start=60&kinds=node,pod",
        "/hello?start=60&kinds=node%2Cpod",
    )


async def test_requests_of_one_client_share_a_stream(hub, tunnel, identity, target):
    async with client(identity) as one:
        for _ in range(5):
            assert await one.get_json("/hello") == {"hello": "world"}
    assert counted(hub, "tunnel_opens_total") == 1


@pytest.mark.parametrize(
    ("body", "headers", "message"),
    [
        (b"x" * 200_000, [JSON], "announced 200000 bytes, more than the cap of 100000"),
        (b"<html></html>", ["Content-Type: text/html"], "answered text/html, not JSON"),
        (b"{}", [], "answered no Content-Type, not JSON"),
        (b"{", [JSON], "not JSON"),
        (b'{"cpu": NaN}', [JSON], "not JSON"),
        (b'{"cpu": Infinity}', [JSON], "not JSON"),
        (b'"\xff"', [JSON], "not JSON"),
        (b"[" * 50_000, [JSON], "not JSON"),
        (b"not gzip", [JSON, GZIP], "cannot be inflated"),
        (gzip.compress(b"[1]" * 100, mtime=0)[:-9], [JSON, GZIP], "breaks off"),
        (gzip.compress(b"1", mtime=0) + b"more", [JSON, GZIP], "after the end"),
        (gzip.compress(bytes(50_000_000)), [JSON, GZIP], "more than the cap of 100000 bytes"),
        (b"{}", [JSON, "Content-Encoding: br"], "the encoding 'br', which was not asked"),
    ],
)
async def test_a_bad_body_is_refused_with_its_reason(
    tunnel, identity, target, body, headers, message
):
    target.set("/bad", body, headers=headers)
    with pytest.raises(BadResponseError) as caught:
        await get_json(identity, "/bad")
    assert message in str(caught.value)
    assert str(caught.value).startswith("agent of north-1: ")
    assert caught.value.code == "bad_response"


async def test_a_gzip_bomb_never_grows_past_the_cap(tunnel, identity, target, monkeypatch):
    """Inflation itself is bounded: no intermediate buffer holds what the bomb expands to."""
    largest = 0

    class Watched(bytearray):
        def __iadd__(self, other):
            nonlocal largest
            largest = max(largest, len(self) + len(other))
            return super().__iadd__(other)

    monkeypatch.setattr("clusters.tunnel.client.http_client.bytearray", Watched, raising=False)
    target.set("/bomb", gzip.compress(bytes(100_000_000)), headers=[JSON, GZIP])
    with pytest.raises(BadResponseError, match="more than the cap"):
        await get_json(identity, "/bomb")
    assert largest == 100_001


async def test_an_endless_body_stops_at_the_cap(hub, tunnel, identity, target):
    async def endless(writer):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
        while True:
            writer.write(b"1" * 65536)
            await writer.drain()

    target.answers["/endless"] = endless
    with pytest.raises(BadResponseError, match="more than the cap of 100000 bytes"):
        await get_json(identity, "/endless")
    await until(lambda: hub.opener.channels == 0)


async def test_an_endless_head_is_refused(tunnel, identity, target):
    async def endless(writer):
        writer.write(b"HTTP/1.1 200 OK\r\nX: ")
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()

    target.answers["/endless"] = endless
    with pytest.raises(BadResponseError):
        await get_json(identity, "/endless")


async def test_a_slow_answer_ends_at_the_deadline(hub, tunnel, identity, target):
    async def dripping(writer):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
        while True:
            writer.write(b"1")
            await writer.drain()
            await asyncio.sleep(0.05)

    target.answers["/slow"] = dripping
    with pytest.raises(ServiceUnavailableError, match=r"no complete answer within 0\.5 s"):
        await get_json(identity, "/slow", deadline_seconds=0.5)
    await until(lambda: hub.opener.channels == 0)


async def test_a_service_that_never_answers_ends_at_the_deadline(tunnel, identity, target):
    async def silent(writer):
        await asyncio.sleep(10)

    target.answers["/silent"] = silent
    with pytest.raises(ServiceUnavailableError, match="no complete answer"):
        await get_json(identity, "/silent", deadline_seconds=0.3)


async def test_a_redirect_is_not_followed(tunnel, identity, target):
    target.set("/away", b"", status="302 Found", headers=["Location: http://169.254.169.254/"])
    with pytest.raises(BadResponseError, match=r"a redirect \(302\), which is not followed"):
        await get_json(identity, "/away")
    assert target.requests == ["/away"]


REFUSALS = [
    (401, "credentials_refused", b'{"error": "authorization failed"}', "authorization failed"),
    (401, "credentials_refused", b"Unauthorized\n", "Unauthorized"),
    (403, "forbidden", b"<html><head><title>403</title></head><b>No\n entry</b></html>", "403 No"),
    (404, "not_found", b"404 page not found\n", "404 page not found"),
    (400, "query_refused", b'{"status":"error","error":"parse error at char 3"}', "parse error at"),
    (422, "query_refused", b'{"code": "invalid", "message": "no\\nsuch bucket"}', "no such bucket"),
    (418, "", b"", "answered with status 418"),
]


@pytest.mark.parametrize(("status", "problem", "body", "message"), REFUSALS)
async def test_a_refusal_is_named_and_says_what_the_service_says(
    tunnel, identity, target, status, problem, body, message
):
    target.set("/no", body, status=f"{status} x")
    with pytest.raises(BadResponseError) as caught:
        await get_json(identity, "/no")
    assert (caught.value.problem, caught.value.status) == (problem, status)
    assert str(caught.value).startswith(f"agent of north-1: answered with status {status}")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


async def test_a_refusal_is_cut_inflated_and_holds_no_credentials(tunnel, identity, target, caplog):
    caplog.set_level("DEBUG")
    password = "s3cret/pass"
    basic = base64.b64encode(f"root:{password}".encode()).decode()
    body = f"no user root with {password} (Basic {basic}) {'x' * 1000}".encode()
    target.set("/no", gzip.compress(body), status="401 x", headers=[GZIP])
    with pytest.raises(BadResponseError) as caught:
        await get_json(identity, "/no", headers={"Authorization": f"Basic {basic}"})
    message = str(caught.value)
    assert "no user root with ***" in message
    assert len(message) < 400
    assert f"Basic {basic}".encode() in target.heads[-1]
    for text in (message, caplog.text, repr(caught.value)):
        assert password not in text
        assert basic not in text


async def test_a_refusal_without_its_text_is_still_reported(tunnel, identity, target):
    async def stuck(writer):
        writer.write(b"HTTP/1.1 404 x\r\nContent-Length: 100\r\n\r\nabc")
        await writer.drain()
        await asyncio.sleep(10)

    target.answers["/stuck"] = stuck
    with pytest.raises(BadResponseError, match=r"status 404 .*abc \(the rest"):
        await get_json(identity, "/stuck", deadline_seconds=1)


async def test_forms_and_texts_go_and_come(tunnel, identity, target):
    target.set("/metrics", b"up 1\n", headers=["Date: Sat, 21 Nov 2026 15:00:00 GMT"])
    target.set("/query", b"a,b\n", headers=["Content-Type: text/csv"])
    target.set_json("/form", "[1]", headers=["Date: never"])
    async with client(identity) as one:
        assert one.server_date is None
        assert await one.get_text("/metrics", accept="text/plain") == "up 1\n"
        assert one.server_date == datetime(2026, 11, 21, 15, tzinfo=UTC).timestamp() + 0.5
        assert await one.post_text("/query", {"query": "x"}, {"org": "o"}, accept="*/*") == "a,b\n"
        assert target.bodies[-1] == b'{"query":"x"}'
        assert target.requests[-1] == "/query?org=o"
        assert await one.post_form_json("/form", {"query": "rate(x[2m]) & more"}) == [1]
        assert target.bodies[-1] == b"query=rate%28x%5B2m%5D%29+%26+more"
        assert one.server_date is None


async def test_a_text_that_is_no_utf8_is_refused(tunnel, identity, target):
    target.set("/metrics", b"\xff")
    async with client(identity) as one:
        with pytest.raises(BadResponseError, match="not UTF-8"):
            await one.get_text("/metrics")


async def test_a_service_that_the_agent_does_not_offer_is_off_by_consent(hub, tmp_path, target):
    identity = await make_identity(tmp_path, "east-1", services=["agent", "prometheus"])
    async with asyncssh_agent(hub, identity, target):
        await serving(hub, identity)
        with pytest.raises(ConsentOffError, match="does not offer prometheus"):
            await get_json(identity, service="prometheus")


@pytest.mark.parametrize("own", [False, True])
async def test_tls_inside_the_tunnel_trusts_the_given_ca_only(hub, identity, target, tmp_path, own):
    (tmp_path / "stranger").mkdir()
    context, file = make_tls(tmp_path, "etcd.test")
    certificate, key = file.read_text(), (tmp_path / "server.key").read_text()
    if own:
        context.load_verify_locations(cadata=certificate)
        context.verify_mode = ssl.CERT_REQUIRED
    ours = {"certificate": certificate, "key": key} if own else {}
    good = TlsIdentity(ca=certificate, server_name="etcd.test", **ours)
    stranger = make_tls(tmp_path / "stranger", "etcd.test")[1].read_text()
    server = await asyncio.start_server(target.serve, "127.0.0.1", 0, ssl=context)
    target.port = server.sockets[0].getsockname()[1]
    async with server, asyncssh_agent(hub, identity, target):
        await serving(hub, identity)
        for believed in (good, replace(good, server_name="")):
            assert await get_json(identity, tls=believed) == {"hello": "world"}
        for doubtful in (replace(good, server_name="other.test"), replace(good, ca=stranger)):
            with pytest.raises(ServiceUnavailableError, match="certificate is not trusted"):
                await get_json(identity, tls=doubtful)
        with pytest.raises((ServiceUnavailableError, BadResponseError)):
            await get_json(identity)  # plain HTTP
        if own:
            with pytest.raises((ServiceUnavailableError, BadResponseError)):
                await get_json(identity, tls=replace(good, certificate="", key=""))


@pytest.mark.parametrize(
    ("identity_of_tls", "field"),
    [
        (TlsIdentity(), "server_name"),
        (TlsIdentity(ca="nonsense"), "ca"),
        (TlsIdentity(server_name="x", certificate="nonsense", key="more"), "certificate"),
    ],
)
def test_certificates_that_cannot_be_used_are_named(identity_of_tls, field):
    with pytest.raises(InvalidInputError, match=f"^{field}: "):
        identity_of_tls.context()


async def test_statuses_show_whose_fault_it_is(tunnel, identity, target):
    target.set("/broken", b"", status="500 Internal Server Error")
    with pytest.raises(ServiceUnavailableError, match="answered with status 500"):
        await get_json(identity, "/broken")
    with pytest.raises(BadResponseError, match="answered with status 404"):
        await get_json(identity, "/missing")


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nContent-Length: 20\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: application/json"
        b"\r\n\r\nzz\r\n",
        b"HTTP/1.1 99999 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 50_000 + b"\r\n",
    ],
)
async def test_what_is_not_http_is_refused(tunnel, identity, target, answer):
    async def garbage(writer):
        writer.write(answer)
        await writer.drain()
        writer.close()

    target.answers["/garbage"] = garbage
    with pytest.raises((BadResponseError, ServiceUnavailableError)) as caught:
        await get_json(identity, "/garbage", deadline_seconds=5)
    assert "north-1" in str(caught.value)
    assert "\n" not in str(caught.value)


async def test_cookies_and_the_environment_are_ignored(tunnel, identity, target, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    target.set("/cookie", b"1", headers=[JSON, "Set-Cookie: a=b"])
    async with client(identity) as one:
        await one.get_json("/cookie")
        assert not list(one._session.cookie_jar)
        assert await one.get_json("/hello") == {"hello": "world"}


async def test_a_bad_cluster_does_not_touch_another(hub, tunnel, identity, target, tmp_path):
    other_target = Target()
    other_target.set_json("/hello", "2")
    server = await asyncio.start_server(other_target.serve, "127.0.0.1", 0)
    other_target.port = server.sockets[0].getsockname()[1]
    other = await make_identity(tmp_path, "south-1")
    target.set("/bad", b"x" * 200_000, headers=[JSON])
    async with server, asyncssh_agent(hub, other, other_target):
        await serving(hub, other)
        answers = await asyncio.gather(
            *(get_json(identity, "/bad") for _ in range(5)),
            *(get_json(other) for _ in range(5)),
            return_exceptions=True,
        )
    assert [type(one) for one in answers[:5]] == [BadResponseError] * 5
    assert answers[5:] == [2] * 5


@pytest.mark.usefixtures("starts_servers")
async def test_a_hub_that_is_away_is_our_fault_and_not_the_tunnels(settings, tmp_path):
    for url in (f"unix://{tmp_path}/nothing.sock", "tcp://127.0.0.1:1"):
        settings.GATEWAY_URL = url
        async with ClusterClient(uuid4(), "agent", deadline_seconds=5, max_bytes=1000) as one:
            with pytest.raises(GatewayDownError, match="gateway cannot be reached") as caught:
                await one.get_json("/hello")
            assert caught.value.code == "gateway_down"


async def test_a_gateway_on_tcp_works_too(
    settings, short_directory, tmp_path, transactional_db, target
):
    async with running_hub(
        settings, short_directory, LIMITS, gateway_url="tcp://127.0.0.1:0"
    ) as hub:
        identity = await make_identity(tmp_path, "north-1")
        async with asyncssh_agent(hub, identity, target):
            await serving(hub, identity)
            assert await get_json(identity) == {"hello": "world"}
