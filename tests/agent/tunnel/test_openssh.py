"""The stock OpenSSH client as the agent's tunnel: real `ssh`, real `python -m agent serve`."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from pathlib import Path

import asyncssh
import pytest

from agent.state import public_line
from tests.agent.hub import CLUSTER_ID, running_hub
from tests.agent.processes import agent, running

pytestmark = pytest.mark.usefixtures("starts_servers")
SCRIPT = Path(__file__).parents[3] / "agent" / "deploy" / "openssh" / "opscenter-ssh-agent.sh"


@pytest.fixture
def key(tmp_path):
    key = asyncssh.generate_private_key("ssh-ed25519")
    path = tmp_path / "opscenter_key"
    path.touch(mode=0o600)
    path.write_bytes(key.export_private_key("openssh"))
    return key


def script(tmp_path, hub, port, *, pinned=None, **more):
    line = public_line(pinned or hub.host_key)
    (tmp_path / "known").write_text(f"[127.0.0.1]:{hub.port} {line}\n")
    environment = {
        "OPSCENTER_SSH_HUB": f"127.0.0.1:{hub.port}",
        "OPSCENTER_SSH_CLUSTER": CLUSTER_ID,
        "OPSCENTER_SSH_KEY": str(tmp_path / "opscenter_key"),
        "OPSCENTER_SSH_KNOWN_HOSTS": str(tmp_path / "known"),
        "OPSCENTER_SSH_FORWARDS": f"agent:9099:127.0.0.1:{port}",
        "OPSCENTER_SSH_MAX_SLEEP": "1",
        **more,
    }
    return running("sh", str(SCRIPT), environment=environment)


async def test_ssh_carries_the_local_api_and_comes_back_after_a_cut(key, tmp_path):
    async with running_hub() as hub, agent("serve", DATA_DIR=str(tmp_path / "data")) as serving:
        hub.know(key)
        output = await serving.says("listens on")
        port = int(re.search(r"listens on 127\.0\.0\.1:(\d+)", output).group(1))
        async with script(tmp_path, hub, port) as tunnel:
            for _ in range(2):
                await hub.wait_session(30)
                assert hub.users[-1] == CLUSTER_ID
                body = (await hub.get("/v1/info")).partition(b"\r\n\r\n")[2]
                assert json.loads(body)["services"] == ["agent"]
                hub.sessions[-1].abort()
            tunnel.process.send_signal(signal.SIGTERM)
            assert await tunnel.end() == 0


async def test_ssh_refuses_another_host_key(key, tmp_path):
    async with running_hub() as hub:
        hub.know(key)
        stranger = asyncssh.generate_private_key("ssh-ed25519")
        async with script(tmp_path, hub, 9, pinned=stranger, OPSCENTER_SSH_TRIES="1") as tunnel:
            assert await tunnel.end(60) == 1
        assert hub.users == []  # it never identified itself
        assert "REMOTE HOST IDENTIFICATION HAS CHANGED" in tunnel.output


async def test_an_unknown_key_is_refused_and_the_script_says_so(key, tmp_path):
    async with (
        running_hub() as hub,
        script(tmp_path, hub, 9, OPSCENTER_SSH_TRIES="1") as tunnel,
    ):
        hub.banner = "this key is not registered"
        assert await asyncio.wait_for(tunnel.end(60), 60) == 1
        assert "Permission denied" in tunnel.output
