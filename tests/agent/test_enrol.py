"""Joining, against a real HTTP server."""

from __future__ import annotations

import asyncio
import json
import stat

import asyncssh
import pytest
from aiohttp import web

from agent.config import load_config
from agent.enrol import (
    EnrolmentError,
    _only_permitted,
    enrol,
    enrol_with_retries,
    token_digest,
)
from agent.state import Enrolment, ensure_key, prepare_data_dir, public_line, read_enrolment
from agent.tunnel.reach import Reach
from tests.agent.tls import make_tls

CLUSTER_ID = "7f0f9a53-9d2f-4b6d-8d58-0f8d2d6a3c11"
HUB_KEY = asyncssh.generate_private_key("ssh-ed25519")


def good_answer(**hub):
    return {
        "cluster_id": CLUSTER_ID,
        "cluster_name": "lab\x1b[31m 1",
        "hub": {
            "addresses": ["hub.example:2222"],
            "ws_urls": ["wss://hub.example/tunnel"],
            "known_hosts": [public_line(HUB_KEY)],
            **hub,
        },
        "services": ["agent"],
        "keepalive_seconds": 15,
    }


def _enrolment(addresses, ws_urls) -> Enrolment:
    keys = (public_line(HUB_KEY),)
    return Enrolment(CLUSTER_ID, "x", tuple(addresses), tuple(ws_urls), keys, 15, "", "")


class Centre:
    """Answers enrolments as a test sets it, and stores what it was sent."""

    def __init__(self):
        self.sent = []
        self.answers = []

    def answer(self, status, body, **headers):
        self.answers.append((status, body, headers))

    async def enrol(self, request):
        self.sent.append(json.loads(await request.read()))
        status, body, headers = self.answers.pop(0) if self.answers else (200, good_answer(), {})
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return web.Response(status=status, body=content, headers=headers)


@pytest.fixture
async def centre(starts_servers):
    centre = Centre()
    app = web.Application()
    app.router.add_post("/api/v1/agents/enrol", centre.enrol)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    centre.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    centre.app = app
    yield centre
    await runner.cleanup()


@pytest.fixture
def make_config(tmp_path, centre):
    def make(**variables):
        values = {"DATA_DIR": str(tmp_path / "data"), "URL": centre.url, "TOKEN": "ocj_one"}
        values |= variables
        config = load_config({f"OPSCENTER_AGENT_{k}": v for k, v in values.items() if v})
        prepare_data_dir(config.data_dir)
        return config

    return make


async def refusal(config) -> EnrolmentError:
    with pytest.raises(EnrolmentError) as caught:
        await enrol(config, kind="host")
    assert "\n" not in str(caught.value)
    return caught.value


async def test_a_token_and_a_public_key_are_sent_and_the_answer_is_stored(centre, make_config):
    config = make_config(HUB_KEY=HUB_KEY.get_fingerprint())
    enrolment = await enrol(config, kind="host")
    (sent,) = centre.sent
    assert sent["token"] == "ocj_one"
    assert sent["kind"] == "host"
    assert sent["public_key"] == public_line(ensure_key(config.data_dir))
    assert "PRIVATE" not in json.dumps(centre.sent)
    assert read_enrolment(config.data_dir) == enrolment
    assert enrolment.cluster_id == CLUSTER_ID
    assert enrolment.cluster_name == "lab [31m 1"
    assert enrolment.token_digest == token_digest("ocj_one")
    assert b"ocj_one" not in (config.data_dir / "enrolment.json").read_bytes()
    for name in ("agent.key", "enrolment.json"):
        assert stat.S_IMODE((config.data_dir / name).stat().st_mode) == 0o600
    assert stat.S_IMODE(config.data_dir.stat().st_mode) == 0o700


async def test_the_key_is_made_once(centre, make_config):
    config = make_config()
    await enrol(config, kind="host")
    await enrol(config, kind="host")
    assert centre.sent[0]["public_key"] == centre.sent[1]["public_key"]


@pytest.mark.parametrize("status", [400, 403])
async def test_a_refusal_has_the_servers_reason_and_is_final(centre, make_config, status):
    error = {"code": "enrolment_refused", "message": "this token was used at 12:00\n\x1b[2J"}
    centre.answer(status, {"error": error})
    caught = await refusal(make_config())
    assert str(caught) == "this token was used at 12:00 [2J"
    assert caught.permanent
    assert read_enrolment(make_config().data_dir) is None


async def test_a_busy_centre_is_asked_again(centre, make_config):
    centre.answer(429, {"error": {"code": "throttled", "message": "slow down"}})
    centre.answer(503, b"<html>proxy</html>")
    enrolment = await enrol_with_retries(make_config(), kind="host", uniform=lambda *_: 0.0)
    assert enrolment.cluster_id == CLUSTER_ID
    assert len(centre.sent) == 3


async def test_a_refusal_ends_the_retries(centre, make_config):
    centre.answer(403, {"error": {"code": "enrolment_refused", "message": "expired"}})
    with pytest.raises(EnrolmentError, match="expired"):
        await enrol_with_retries(make_config(), kind="host", uniform=lambda *_: 0.0)
    assert len(centre.sent) == 1


async def test_a_centre_that_is_away_is_waited_for(make_config, unused_port):
    config = make_config(URL=f"http://127.0.0.1:{unused_port}")
    caught = await refusal(config)
    assert not caught.permanent
    assert "cannot be reached" in str(caught)


async def test_another_hubs_key_is_refused_with_both_fingerprints(make_config):
    expected = asyncssh.generate_private_key("ssh-ed25519").get_fingerprint()
    caught = await refusal(make_config(HUB_KEY=expected))
    assert expected in str(caught)
    assert HUB_KEY.get_fingerprint() in str(caught)
    assert caught.permanent


async def test_only_the_expected_keys_are_pinned(centre, make_config):
    slipped_in = public_line(asyncssh.generate_private_key("ssh-ed25519"))
    centre.answer(200, good_answer(known_hosts=[slipped_in, public_line(HUB_KEY)]))
    enrolment = await enrol(make_config(HUB_KEY=HUB_KEY.get_fingerprint()), kind="host")
    assert enrolment.host_keys == (public_line(HUB_KEY),)


async def test_plain_http_to_another_machine_needs_the_hubs_fingerprint(make_config):
    caught = await refusal(make_config(URL="http://ops.example"))
    assert "--hub-key" in str(caught)
    assert caught.permanent


@pytest.mark.parametrize(
    "body",
    [
        b"not json",
        b"[]",
        b"x" * 100_000,
        {**good_answer(), "cluster_id": "../../etc"},
        {**good_answer(), "hub": None},
        good_answer(addresses=["no port"]),
        good_answer(ws_urls=["http://x"]),
        good_answer(known_hosts=["ssh-ed25519 nonsense"]),
        good_answer(known_hosts=[]),
        good_answer(addresses=[], ws_urls=[]),
        good_answer(addresses=[5]),
    ],
)
async def test_an_answer_that_cannot_be_used_is_refused_and_not_stored(centre, make_config, body):
    centre.answer(200, body)
    config = make_config()
    assert (await refusal(config)).permanent
    assert read_enrolment(config.data_dir) is None


async def test_a_redirect_is_not_followed(centre, make_config):
    centre.answer(302, {}, Location="http://127.0.0.1:1/elsewhere")
    assert "redirects" in str(await refusal(make_config()))


async def test_tls_is_verified(centre, make_config, monkeypatch, tmp_path):
    server_tls, authority = make_tls(tmp_path, "localhost")
    runner = web.AppRunner(centre.app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=server_tls)
    await site.start()
    config = make_config(URL=f"https://localhost:{runner.addresses[0][1]}")
    caught = await refusal(config)
    assert "TLS is not trusted" in str(caught)
    assert centre.sent == []
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    assert (await enrol(config, kind="host")).cluster_id == CLUSTER_ID
    await runner.cleanup()


async def test_an_endless_answer_ends_at_the_deadline(make_config, monkeypatch):
    monkeypatch.setattr("agent.enrol.DEADLINE_SECONDS", 0.3)

    async def drip(reader, writer):
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        try:
            while True:
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.05)
        except ConnectionError:
            writer.close()

    server = await asyncio.start_server(drip, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    assert "did not answer within" in str(
        await refusal(make_config(URL=f"http://127.0.0.1:{port}"))
    )
    server.close()


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1:2222"], ["[::1]:2222"], ["localhost:2222"], ["a.localhost:1"], ["0.0.0.0:22"],
        ["10.0.0.5:22"], ["192.168.1.1:443"], ["172.16.0.1:80"], ["100.64.0.1:1"], ["[fd00::1]:1"],
        ["169.254.169.254:80"], ["[fe80::1]:22"], ["[::ffff:10.0.0.5]:22"], ["[64:ff9b::7f00:1]:1"],
        ["127.1:22"], ["2130706433:22"], ["0x7f000001:22"], ["224.0.0.1:1"], ["[2002:7f00:1::]:1"],
    ],
)  # fmt: skip
def test_a_centre_on_the_internet_names_no_address_in_here(addresses):
    named = _enrolment(addresses, [f"ws://{addresses[0]}/x"])
    with pytest.raises(EnrolmentError, match="names no hub that this agent dials") as caught:
        _only_permitted(named, Reach.INTERNET)
    assert caught.value.permanent


@pytest.mark.parametrize(
    ("centre", "kept"),
    [
        (Reach.INTERNET, ["8.8.8.8:22", "hub.example:22"]),
        (Reach.NETWORK, ["8.8.8.8:22", "hub.example:22", "10.0.0.5:22"]),
        (Reach.MACHINE, ["8.8.8.8:22", "hub.example:22", "10.0.0.5:22", "127.0.0.1:22"]),
    ],
)
def test_only_addresses_as_near_as_the_centre_are_kept(centre, kept, caplog):
    every = ["8.8.8.8:22", "hub.example:22", "10.0.0.5:22", "127.0.0.1:22", "169.254.169.254:80"]
    enrolment = _only_permitted(_enrolment(every, []), centre)
    assert list(enrolment.addresses) == kept
    assert enrolment.centre == centre
    for address in set(every) - set(kept):
        assert address in caplog.text


async def test_how_the_centre_was_reached_is_stored(centre, make_config):
    config = make_config()
    await enrol(config, kind="host")
    stored = read_enrolment(config.data_dir)
    assert stored is not None
    assert stored.centre == Reach.MACHINE


async def test_behind_a_proxy_a_centre_of_a_name_is_on_the_internet(
    centre, make_config, monkeypatch
):
    monkeypatch.setenv("http_proxy", centre.url)  # answers as the centre does, whatever the name
    monkeypatch.delenv("no_proxy", raising=False)
    centre.answer(200, good_answer(addresses=["10.1.2.3:22"], ws_urls=[]))
    config = make_config(URL="http://ops.example", HUB_KEY=HUB_KEY.get_fingerprint())
    assert "names no hub that this agent dials" in str(await refusal(config))
    assert read_enrolment(config.data_dir) is None
