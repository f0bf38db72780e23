"""The agent as a process: its commands, its signals, its exit codes."""

from __future__ import annotations

import asyncio
import json
import signal

import aiohttp
import asyncssh
import pytest
from aiohttp import web

from agent.state import public_line
from tests.agent.hub import CLUSTER_ID, running_hub
from tests.agent.processes import agent


@pytest.fixture
async def place(starts_servers):
    """A hub, and a centre that registers every key there for the token ``good``."""
    tokens = {"good"}
    async with running_hub() as hub:

        async def enrol(request):
            sent = await request.json()
            if sent["token"] not in tokens:
                error = {"code": "enrolment_refused", "message": "this token was used already"}
                return web.json_response({"error": error}, status=403)
            tokens.discard(sent["token"])
            hub.know(asyncssh.import_public_key(sent["public_key"]))
            answer = {
                "cluster_id": CLUSTER_ID,
                "cluster_name": "lab",
                "hub": {
                    "addresses": [f"127.0.0.1:{hub.port}"],
                    "ws_urls": [f"ws://127.0.0.1:{hub.ws_port}/tunnel"],
                    "known_hosts": [public_line(hub.host_key)],
                },
                "services": ["agent"],
                "keepalive_seconds": 15,
            }
            return web.json_response(answer)

        app = web.Application()
        app.router.add_post("/api/v1/agents/enrol", enrol)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        hub.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        hub.tokens = tokens
        yield hub
        await runner.cleanup()


def variables(place, tmp_path, **more):
    return {"DATA_DIR": str(tmp_path / "data"), "FIRST_CONNECT_SECONDS": "0", **more}


async def test_run_joins_measures_and_serves_through_the_tunnel(place, tmp_path):
    options = ["--url", place.url, "--token", "good", "--hub-key"]
    options.append(place.host_key.get_fingerprint())
    async with agent("run", *options, **variables(place, tmp_path)) as process:
        await process.says("tunnel up")
        head, _, body = (await place.get("/v1/info")).partition(b"\r\n\r\n")
        assert b"200 OK" in head
        info = json.loads(body)
        assert info["services"] == ["agent"]
        version = place.sessions[-1].get_extra_info("client_version")
        assert version.endswith(f"instance={info['agent']['instance']}")
        assert (tmp_path / "data" / "ready").exists()
        process.process.send_signal(signal.SIGTERM)
        assert await process.end() == 0
    assert "Traceback" not in process.output
    assert not (tmp_path / "data" / "ready").exists()


async def test_a_restart_needs_no_token_and_a_used_one_does_no_harm(place, tmp_path):
    given = variables(place, tmp_path, URL=place.url, TOKEN="good")
    async with agent("join", **given) as process:
        assert await process.end() == 0
    assert "joined as lab" in process.output
    for more in ({}, {"URL": place.url, "TOKEN": "good"}):
        async with agent("run", **variables(place, tmp_path, **more)) as process:
            await process.says("tunnel up")
            process.process.send_signal(signal.SIGINT)
            assert await process.end() == 0


async def test_another_token_joins_again(place, tmp_path):
    async with agent("join", **variables(place, tmp_path, URL=place.url, TOKEN="good")) as process:
        assert await process.end() == 0
    given = variables(place, tmp_path, URL=place.url, TOKEN="better")
    async with agent("run", **given) as process:
        assert await process.end() == 1
    assert "this token was used already" in process.output
    place.tokens.add("better")
    async with agent("run", **given) as process:
        await process.says("joined as cluster lab")
        await process.says("tunnel up")


async def test_a_refused_token_is_reported_and_ends_with_1(place, tmp_path):
    async with agent("join", **variables(place, tmp_path, URL=place.url, TOKEN="bad")) as process:
        assert await process.end() == 1
    assert process.output == "opscenter-agent: this token was used already\n"


async def test_a_second_agent_on_the_same_directory_is_refused_in_one_line(place, tmp_path):
    async with agent("serve", **variables(place, tmp_path)) as first:
        await first.says("listens on")
        for command in ("serve", "run"):
            async with agent(command, **variables(place, tmp_path)) as second:
                assert await second.end() == 1
            assert f"another agent (process {first.process.pid}) already uses" in second.output
            assert second.output.count("\n") == 1


async def test_bad_configuration_ends_with_2_and_one_line(place, tmp_path):
    async with agent("run", **variables(place, tmp_path, SAMPLE_SECONDS="often")) as process:
        assert await process.end() == 2
    assert process.output.count("\n") == 1
    assert "OPSCENTER_AGENT_SAMPLE_SECONDS" in process.output


async def test_run_without_an_enrolment_says_what_is_missing(place, tmp_path):
    async with agent("run", **variables(place, tmp_path)) as process:
        assert await process.end() == 1
    assert "holds no enrolment; give a URL and a token" in process.output


async def test_a_taken_port_is_named(place, tmp_path):
    listen = f"127.0.0.1:{place.port}"
    async with agent("serve", **variables(place, tmp_path, LISTEN=listen)) as process:
        assert await process.end() == 1
    assert f"OPSCENTER_AGENT_LISTEN: cannot listen on {listen}" in process.output


async def test_no_hub_for_too_long_ends_with_1_so_that_a_supervisor_restarts_it(place, tmp_path):
    async with agent("join", **variables(place, tmp_path, URL=place.url, TOKEN="good")) as process:
        assert await process.end() == 0
    enrolment = tmp_path / "data" / "enrolment.json"
    content = json.loads(enrolment.read_text())
    enrolment.write_text(json.dumps({**content, "addresses": ["127.0.0.1:1"], "ws_urls": []}))
    given = variables(place, tmp_path, EXIT_AFTER_SECONDS="1")
    async with agent("run", **given) as process:
        assert await process.end(60) == 1
    assert "no hub for" in process.output


async def test_the_api_can_listen_on_a_unix_socket_of_its_user_only(place, tmp_path):
    path = tmp_path / "a.sock"
    for _ in range(2):  # the second finds the socket that the killed first one left
        async with agent("serve", **variables(place, tmp_path, LISTEN=str(path))) as process:
            await process.says(f"listens on {path}")
            assert path.stat().st_mode & 0o777 == 0o600
            connector = aiohttp.UnixConnector(str(path))
            async with (
                aiohttp.ClientSession(connector=connector) as session,
                session.get("http://agent/v1/info") as answer,
            ):
                assert (await answer.json())["services"] == ["agent"]


async def test_check_reports_line_by_line_what_works_and_disturbs_no_agent(place, tmp_path):
    given = variables(place, tmp_path, URL=place.url, TOKEN="good", COLLECTOR="host")
    async with agent("run", **given) as running:
        await running.says("tunnel up")
        async with agent("check", **given) as process:
            assert await process.end(60) == 0
        assert process.output.count("answers with the pinned host key") == 2
        assert "joined as lab" in process.output
        assert len(place.sessions) == 1
        given["SERVICES"] = "etcd=127.0.0.1:1"
        async with agent("check", **given) as process:
            assert await process.end(60) == 1
        assert "FAIL  service etcd: 127.0.0.1:1" in process.output


async def test_key_prints_the_public_key_to_paste(place, tmp_path):
    async with agent("key", **variables(place, tmp_path)) as process:
        assert await process.end() == 0
    asyncssh.import_public_key(process.output)
    assert await asyncio.to_thread((tmp_path / "data" / "agent.key").exists)
