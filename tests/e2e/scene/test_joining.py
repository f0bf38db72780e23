"""An agent that must not join is refused, and both ends say why. Real agents, the real centre."""

from __future__ import annotations

import json
import shutil

import asyncssh
import pytest

from tests.centre import wait_until
from tests.e2e.agents import Agent
from tests.e2e.scene.conftest import Scene

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

GIVE_UP = {"EXIT_AFTER_SECONDS": "3", "TRANSPORT": "ws"}  # past the link that another test cuts


def refused(agent: Agent, words: str) -> None:
    """Run an agent and see that it ends with exit code 1 and says why."""
    agent.run()
    assert agent.exit_code() == 1, agent.output
    assert words in agent.output.splitlines()[-1], agent.output


def audited(scene: Scene) -> list[str]:
    """Return the reasons of refused enrolments in the centre's audit log, oldest first."""
    code = (
        "from clusters.models import AuditEvent\n"
        "for e in AuditEvent.objects.filter(action='agent.enrol', ok=False): "
        "print('reason:', e.detail['reason'], '|', e.actor, '|', e.cluster_id)"
    )
    done = scene.centre.manage("shell", "-v0", "-c", code)
    assert done.returncode == 0, done.stderr
    return [line for line in done.stdout.splitlines() if line.startswith("reason:")]


@pytest.fixture(scope="module")
def joined(scene):
    """A cluster that joined by ``join``: its id, its used token and its agent's directory."""
    cluster_id, token = scene.api.add_cluster("join-refusals")
    agent = scene.agent("joined", "join", TOKEN=token)
    agent.run()
    assert agent.exit_code() == 0, agent.output
    assert "joined as join-refusals" in agent.output
    return cluster_id, token, agent.data_dir


def copy_of(scene: Scene, directory, name: str) -> Agent:
    """Return an agent with a copy of another one's enrolment and key."""
    agent = scene.agent(name, **GIVE_UP)
    shutil.copytree(directory, agent.data_dir)
    return agent


def test_a_wrong_token_is_refused_at_both_ends(scene):
    refused(scene.agent("wrong", "join", TOKEN="ocj_" + "x" * 43), "join token is not known")
    assert any("not known" in line and "agent 127.0.0.1" in line for line in audited(scene))


def test_an_expired_token_is_refused_at_both_ends(scene):
    cluster_id, token = scene.api.add_cluster("join-expired")
    expire = (
        "from clusters.models import JoinToken; from datetime import *;"
        f"JoinToken.objects.filter(cluster='{cluster_id}')"
        ".update(expires_at=datetime(2020, 1, 2, tzinfo=UTC))"
    )
    assert scene.centre.manage("shell", "-v0", "-c", expire).returncode == 0
    refused(scene.agent("expired", TOKEN=token), "join token expired at 2020-01-02 00:00 UTC")
    assert any("expired" in line and cluster_id in line for line in audited(scene))
    assert scene.api.cluster(cluster_id)["health"]["state"] == "pending"


def test_a_used_token_is_refused_at_both_ends(scene, joined, pages):
    cluster_id, token, _ = joined
    refused(scene.agent("used", "join", TOKEN=token), "join token was used already")
    assert any("used already" in line and cluster_id in line for line in audited(scene))
    assert "used already" in pages.get(f"/clusters/{cluster_id}/join/")


def test_another_hub_key_than_the_join_command_says_is_refused_before_anything_is_stored(scene):
    _, token = scene.api.add_cluster("join-other-hub")
    agent = scene.agent("other-hub", "join", TOKEN=token, HUB_KEY="SHA256:" + "A" * 43)
    refused(agent, "somebody may be in between")
    assert not (agent.data_dir / "enrolment.json").exists()


def test_an_unknown_key_is_refused_and_both_ends_say_so(scene, joined):
    agent = copy_of(scene, joined[2], "unknown-key")
    fresh = asyncssh.generate_private_key("ssh-ed25519")
    (agent.data_dir / "agent.key").write_bytes(fresh.export_private_key("openssh"))
    refused(
        agent, "the hub refused our key: Ops Center refuses the sign-in: the key is not registered"
    )
    scene.centre.wait_for_line(r"hub +\| .*sign-in refused: the key is not registered")
    assert fresh.get_fingerprint() in scene.centre.output


def test_an_agent_does_not_speak_to_a_hub_with_another_key(scene, joined):
    agent = copy_of(scene, joined[2], "wrong-host-key")
    path = agent.data_dir / "enrolment.json"
    enrolment = json.loads(path.read_text())
    other = asyncssh.generate_private_key("ssh-ed25519")
    enrolment["host_keys"] = [" ".join(other.export_public_key().decode().split()[:2])]
    path.write_text(json.dumps(enrolment))
    refused(agent, "is not our hub")
    assert other.get_fingerprint() in agent.output
    assert scene.hub_key in agent.output
    scene.centre.wait_for_line(r"hub +\| .*the client refused our host key")


def test_a_revoked_cluster_is_cut_and_stays_out(scene, joined):
    cluster_id, _, directory = joined
    agent = copy_of(scene, directory, "revoked")
    agent.run()
    wait_until(lambda: scene.api.cluster(cluster_id)["tunnel"]["up"], "its tunnel is up")
    scene.api.post(f"/clusters/{cluster_id}/revoke/")
    assert agent.exit_code() == 1, agent.output
    words = "refused our key: Ops Center refuses the sign-in: the cluster is revoked"
    assert words in agent.output.splitlines()[-1]
    seen = scene.api.cluster(cluster_id)
    assert seen["health"]["state"] == "revoked"
    assert not seen["tunnel"]["up"]
    scene.centre.wait_for_line(r"hub +\| .*sign-in refused: the cluster is revoked")
    [session] = scene.api.get(f"/clusters/{cluster_id}/sessions/")["results"]
    assert "revoked" in session["end_reason"]
