"""How the machine's own agent is started: fresh, enrolled, after a crash, revoked, deleted."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
import time_machine

from clusters import services
from clusters.enrolment import services as enrolment
from clusters.models import AuditEvent, Cluster, JoinToken
from opscenter.processes import local_agent
from tests.factories import public_key

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _own_directory(settings, tmp_path):
    settings.DATA_DIR = tmp_path
    settings.HUB_HOST_KEY_PATH = tmp_path / "hub_host_key"
    (tmp_path / "agent").mkdir()
    local_agent._tokens.clear()


def token_of(command) -> str | None:
    assert command is not None
    return command.environment.get("OPSCENTER_AGENT_TOKEN")


def enrol(token: str, seed: str = "key") -> Cluster:
    """Do what the centre does when the agent asks."""
    reply = enrolment.enrol(
        token=token, public_key=public_key(seed), agent_version="1", kind="host",
        remote_address="127.0.0.1",
    )  # fmt: skip
    return Cluster.objects.get(pk=reply.cluster_id)


def keep(cluster: Cluster) -> None:
    """Do what the agent does when it has joined."""
    path = local_agent.agent_directory() / "enrolment.json"
    path.write_text(json.dumps({"cluster_id": str(cluster.pk)}))


def test_the_first_start_makes_the_cluster_and_brings_a_token():
    token = token_of(local_agent.agent_command())
    assert token.startswith("ocj_")
    assert Cluster.objects.get().name == "this-machine"


def test_an_agent_that_dies_before_it_has_enrolled_costs_one_token():
    tokens = {token_of(local_agent.agent_command()) for _ in range(5)}
    assert len(tokens) == 1
    assert JoinToken.objects.count() == 1
    assert AuditEvent.objects.filter(action="join_token.create").count() == 1


def test_an_agent_that_died_before_it_stored_the_answer_enrols_again_with_its_key():
    token = token_of(local_agent.agent_command())
    cluster = enrol(token)
    again = token_of(local_agent.agent_command())
    assert again == token
    assert enrol(again) == cluster
    assert cluster.keys.count() == 1


def test_an_enrolled_agent_gets_no_token():
    keep(enrol(token_of(local_agent.agent_command())))
    assert token_of(local_agent.agent_command()) is None
    assert JoinToken.objects.count() == 1


def test_a_token_that_is_too_old_or_replaced_is_not_used_again():
    first = token_of(local_agent.agent_command())
    with time_machine.travel(datetime.now(UTC) + timedelta(days=40)):
        second = token_of(local_agent.agent_command())
    assert second != first
    enrolment.issue_join_token(Cluster.objects.get(), actor="operator")
    assert token_of(local_agent.agent_command()) not in (first, second)


def test_a_token_whose_key_was_replaced_is_not_used_again():
    token = token_of(local_agent.agent_command())
    cluster = enrol(token)
    with time_machine.travel(datetime.now(UTC) + timedelta(minutes=5)):
        enrolment.register_key(cluster, public_key("newer"), actor="operator")
        fresh = token_of(local_agent.agent_command())
    assert fresh != token
    assert enrol(fresh, "third") == cluster


def test_a_deleted_cluster_is_created_again_and_the_old_enrolment_dropped(caplog):
    cluster = enrol(token_of(local_agent.agent_command()))
    keep(cluster)
    gone = cluster.pk
    services.delete_cluster(cluster, actor="operator")
    token = token_of(local_agent.agent_command())
    assert f"the cluster {gone} is gone" in caplog.text
    assert not (local_agent.agent_directory() / "enrolment.json").exists()
    assert enrol(token).pk != gone
    assert Cluster.objects.get().name == "this-machine"


def test_an_enrolled_cluster_that_was_renamed_is_still_the_one():
    cluster = enrol(token_of(local_agent.agent_command()))
    keep(cluster)
    services.update_cluster(cluster, name="my-desk", actor="operator")
    assert token_of(local_agent.agent_command()) is None
    assert Cluster.objects.count() == 1


@pytest.mark.parametrize("kept", [True, False])
def test_a_revoked_cluster_stays_revoked(caplog, kept):
    cluster = enrol(token_of(local_agent.agent_command()))
    if kept:
        keep(cluster)
    services.revoke_cluster(cluster, actor="operator")
    assert local_agent.agent_command() is None
    assert "revoked: the local agent is not started" in caplog.text
    assert not JoinToken.objects.filter(used_at=None).exists()


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"cluster_id": 7}', '{"cluster_id": "x"}'])
def test_a_damaged_enrolment_is_made_again_for_the_same_cluster(caplog, content):
    cluster = enrol(token_of(local_agent.agent_command()))
    (local_agent.agent_directory() / "enrolment.json").write_text(content)
    local_agent._tokens.clear()  # another run of the supervisor
    assert enrol(token_of(local_agent.agent_command())) == cluster
    assert "cannot be read" in caplog.text
