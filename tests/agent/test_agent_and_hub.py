"""The agent's own processes against the real hub and the real enrolment."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from asgiref.sync import sync_to_async
from django.utils import timezone

from clusters import services
from clusters.enrolment import services as enrolment
from clusters.models import AuditEvent, Cluster, ClusterStatus, TunnelSession
from clusters.tunnel.client.http_client import ClusterClient
from clusters.tunnel.host_key import host_key_fingerprint
from tests.agent.processes import agent, running
from tests.agent.tunnel.test_openssh import SCRIPT
from tests.clusters.tunnel.conftest import LIMITS, running_hub

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def hub_directory():
    path = Path(tempfile.mkdtemp(prefix="oc"))  # short enough for a unix socket's name
    yield path
    shutil.rmtree(path)


@pytest.fixture
async def hub(starts_servers, transactional_db, settings, hub_directory):
    async with running_hub(settings, hub_directory, LIMITS) as hub:
        announce(settings, hub)
        yield hub


def announce(settings, hub, **changes):
    settings.HUB_PUBLIC_ADDRESS = f"127.0.0.1:{hub.port}"
    settings.HUB_PUBLIC_WS_URL = f"ws://127.0.0.1:{hub.ws_port}/tunnel"
    for name, value in changes.items():
        setattr(settings, name, value)


@sync_to_async
def make_cluster(name="north-1"):
    cluster = services.create_cluster(name=name, actor="test")
    return cluster, enrolment.issue_join_token(cluster, actor="test", now=timezone.now())


def variables(live_server, tmp_path, **more):
    return {
        "DATA_DIR": str(tmp_path / "data"),
        "URL": live_server.url,
        "HUB_KEY": host_key_fingerprint(),
        "FIRST_CONNECT_SECONDS": "0",
        "COLLECTOR": "host",
        **more,
    }


async def info(cluster):
    client = ClusterClient(cluster.pk, "agent", deadline_seconds=15, max_bytes=1_000_000)
    async with client:
        return await client.get_json("/v1/info")


async def until(ask, seconds=30):
    async with asyncio.timeout(seconds):
        while not (answer := await ask()):  # noqa: ASYNC110 - the database has no event
            await asyncio.sleep(0.05)
        return answer


async def test_an_agent_joins_and_is_read_through_the_gateway(hub, live_server, tmp_path):
    cluster, token = await make_cluster()
    given = variables(live_server, tmp_path, TOKEN=token)
    async with agent("run", **given) as process:
        await process.says("tunnel up")
        answer = await info(cluster)
        assert answer["collectors"]["host"]["ok"] or answer["collectors"]["host"]["last_at"] is None
        await hub.recorder.flushed()
        session = await TunnelSession.objects.aget(cluster=cluster)
        assert session.client_version.startswith("OpsCenterAgent_")
        process.process.send_signal(signal.SIGTERM)
        assert await process.end() == 0
    status = await until(
        lambda: ClusterStatus.objects.filter(cluster=cluster, tunnel_up=False).afirst()
    )
    assert status
    stored = await Cluster.objects.aget(pk=cluster.pk)
    assert stored.status == Cluster.Status.ACTIVE
    assert stored.kind == "host"


async def test_it_works_inside_a_websocket(hub, live_server, tmp_path):
    cluster, token = await make_cluster()
    given = variables(live_server, tmp_path, TOKEN=token, TRANSPORT="ws")
    async with agent("run", **given) as process:
        await process.says("tunnel up: ws://")
        assert (await info(cluster))["services"] == ["agent"]


async def test_a_used_token_is_refused_at_both_ends(hub, live_server, tmp_path):
    cluster, token = await make_cluster()
    async with agent("join", **variables(live_server, tmp_path, TOKEN=token)) as process:
        assert await process.end() == 0
    given = variables(live_server, tmp_path, TOKEN=token, DATA_DIR=str(tmp_path / "other"))
    async with agent("join", **given) as process:
        assert await process.end() == 1
    refused = await AuditEvent.objects.filter(action="agent.enrol", ok=False).alatest("at")
    assert refused.detail["reason"] in process.output
    assert refused.cluster_id == cluster.pk


async def test_a_revoked_agent_is_cut_and_says_why(hub, live_server, tmp_path):
    cluster, token = await make_cluster()
    async with agent("run", **variables(live_server, tmp_path, TOKEN=token)) as process:
        await process.says("tunnel up")
        await sync_to_async(services.revoke_cluster)(cluster, actor="test", now=timezone.now())
        await hub.revocations.recheck()  # what Redis would have told it; there is none here
        await process.says("the hub refused our key")
        assert "revoked" in process.output.partition("the hub refused our key")[2]


async def test_the_same_key_in_two_places_is_flagged(
    settings, live_server, tmp_path, hub_directory
):
    limits = replace(LIMITS, replaced_drain_seconds=1, keepalive_seconds=0.2)
    async with running_hub(settings, hub_directory, limits) as hub:
        announce(settings, hub)
        cluster, token = await make_cluster()
        async with agent("join", **variables(live_server, tmp_path, TOKEN=token)) as process:
            assert await process.end() == 0
        copy = tmp_path / "copy"
        await asyncio.to_thread(shutil.copytree, tmp_path / "data", copy)
        mine = variables(live_server, tmp_path)
        async with (
            agent("run", **mine) as first,
            agent("run", **mine | {"DATA_DIR": str(copy)}) as second,
        ):
            await first.says("tunnel up")
            await second.says("tunnel up")
            flagged = await until(
                lambda: Cluster.objects.filter(pk=cluster.pk, conflict_at__isnull=False).afirst()
            )
            assert "agent" in flagged.conflict_detail
            assert (await info(cluster))["services"] == ["agent"]


async def test_a_copy_of_a_machine_with_its_agent_is_flagged(
    settings, live_server, tmp_path, hub_directory
):
    """Machine id, path and address are the same, as a cloned or restored machine has them."""
    limits = replace(LIMITS, replaced_drain_seconds=2, suspect_keepalive_seconds=0.2)
    async with running_hub(settings, hub_directory, limits) as hub:
        announce(settings, hub)
        cluster, token = await make_cluster()
        mine = variables(live_server, tmp_path, TOKEN=token)
        async with agent("run", **mine) as first:
            await first.says("tunnel up")
            # The first one keeps its open files; the copy starts under the same path.
            await asyncio.to_thread((tmp_path / "data").rename, tmp_path / "moved")
            await asyncio.to_thread(shutil.copytree, tmp_path / "moved", tmp_path / "data")
            async with agent("run", **mine) as second:
                await second.says("tunnel up")
                flagged = await until(
                    lambda: Cluster.objects.filter(pk=cluster.pk).exclude(conflict_at=None).afirst()
                )
        sessions = [one async for one in TunnelSession.objects.filter(cluster=cluster)]
    assert len({one.remote_address for one in sessions}) == 1
    assert "both have one machine id and path" in flagged.conflict_detail


async def test_an_agent_that_is_killed_again_and_again_is_not_flagged(hub, live_server, tmp_path):
    cluster, token = await make_cluster()
    given = variables(live_server, tmp_path, TOKEN=token)
    for _ in range(4):  # killed at the end of each block
        async with agent("run", **given) as process:
            await process.says("tunnel up")
    await until(lambda: ClusterStatus.objects.filter(cluster=cluster, tunnel_up=False).afirst())

    async def all_are_written() -> bool:  # at most once a second for one cluster
        return await TunnelSession.objects.filter(cluster=cluster).acount() == 4

    await until(all_are_written)
    assert (await Cluster.objects.aget(pk=cluster.pk)).conflict_at is None


async def test_a_hub_that_is_killed_and_back_is_found_again(
    settings, live_server, tmp_path, hub_directory
):
    async with running_hub(settings, hub_directory, LIMITS) as hub:
        announce(settings, hub)
        ports = {"port": hub.port, "ws_port": hub.ws_port}
        cluster, token = await make_cluster()
        given = variables(live_server, tmp_path, TOKEN=token)
        process_context = agent("run", **given)
        process = await process_context.__aenter__()
        await process.says("tunnel up")
    try:
        await process.says("no tunnel")
        async with running_hub(settings, hub_directory, LIMITS, **ports):
            process.output = ""
            await process.says("tunnel up", 60)
            assert (await info(cluster))["services"] == ["agent"]
    finally:
        await process_context.__aexit__(None, None, None)


async def test_stock_openssh_with_a_key_that_a_plain_post_enrolled_is_read_like_the_agent(
    hub, live_server, tmp_path
):
    cluster, token = await make_cluster()
    key = tmp_path / "opscenter_key"
    async with running(
        "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(key)
    ) as keygen:
        assert await keygen.end() == 0
    sent = {
        "token": token,
        "public_key": " ".join(key.with_suffix(".pub").read_text().split()[:2]),
        "agent_version": "openssh",
        "kind": "host",
    }
    code = (
        "import sys,urllib.request as u;"
        "r=u.Request(sys.argv[1],sys.argv[2].encode(),{'Content-Type':'application/json'});"
        "print(u.urlopen(r).read().decode())"
    )
    url = f"{live_server.url}/api/v1/agents/enrol"
    async with running(sys.executable, "-c", code, url, json.dumps(sent)) as posted:
        assert await posted.end() == 0
    answer = json.loads(posted.output)
    assert answer["cluster_id"] == str(cluster.pk)
    (tmp_path / "known").write_text(f"[127.0.0.1]:{hub.port} {answer['hub']['known_hosts'][0]}\n")
    async with agent("serve", DATA_DIR=str(tmp_path / "data"), LISTEN="127.0.0.1:0") as serving:
        output = await serving.says("listens on")
        port = output.rsplit("127.0.0.1:", 1)[1].split()[0]
        environment = {
            "OPSCENTER_SSH_HUB": f"127.0.0.1:{hub.port}",
            "OPSCENTER_SSH_CLUSTER": answer["cluster_id"],
            "OPSCENTER_SSH_KEY": str(key),
            "OPSCENTER_SSH_KNOWN_HOSTS": str(tmp_path / "known"),
            "OPSCENTER_SSH_FORWARDS": f"agent:9099:127.0.0.1:{port}",
        }
        async with running("sh", str(SCRIPT), environment=environment) as tunnel:
            try:
                await until(lambda: _up(hub, cluster))
            except TimeoutError:
                pytest.fail(f"no tunnel came: {tunnel.output}")
            assert (await info(cluster))["services"] == ["agent"]


async def _up(hub, cluster):
    session = hub.registry.serving(cluster.pk)
    return session is not None
