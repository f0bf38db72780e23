"""Creating, enrolling, revoking and deleting clusters, with their audit lines."""

from __future__ import annotations

from datetime import timedelta

import pytest

from clusters import services
from clusters.enrolment import services as enrolment
from clusters.enrolment.public_keys import parse_public_key
from clusters.models import AuditEvent, Cluster, ClusterKey, JoinToken
from opscenter.core.errors import EnrolmentRefusedError, InvalidInputError
from tests.factories import NOW, ClusterFactory, public_key

pytestmark = pytest.mark.django_db


def enrol(token: str, key: str = "key", now=NOW):
    return enrolment.enrol(
        token=token,
        public_key=public_key(key),
        agent_version="0.1.0",
        kind="host",
        remote_address="192.0.2.7",
        now=now,
    )


def new_cluster(name: str = "site-1") -> Cluster:
    return services.create_cluster(name=name, labels={"region": "eu"}, customer=None, actor="test")


def test_a_created_cluster_waits_for_its_agent(operator):
    cluster = services.create_cluster(name="a", labels={}, customer=None, actor=operator)
    assert (cluster.status, cluster.current.state) == ("pending", "pending")
    line = AuditEvent.objects.get()
    assert (line.actor, line.action, line.cluster_id) == ("operator", "cluster.create", cluster.pk)


@pytest.mark.parametrize("name", ["", "A", "-a", "a-", "a b", "a\n", "a" * 64, "ä", "a_b", "../x"])
def test_a_name_that_is_not_well_formed_is_refused_by_field(name):
    with pytest.raises(InvalidInputError, match=r"^name: "):
        new_cluster(name)
    assert not Cluster.objects.exists()


def test_a_name_that_is_taken_is_refused_and_leaves_no_audit_line():
    new_cluster()
    with pytest.raises(InvalidInputError, match="name: a cluster named site-1 already exists"):
        new_cluster()
    assert AuditEvent.objects.count() == 1


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({f"k{i}": "v" for i in range(33)}, "33 are too many"),
        ({"": "v"}, "the key ''"),
        ({"a b": "v"}, "the key 'a b'"),
        ({"k" * 64: "v"}, "must be 1 to 63"),
        ({"k\n": "v"}, "the key"),
        ({"k": "x" * 101}, "longer than 100"),
        ({"k": "a\x00b"}, "control character"),
        ({"k": "a\u202eb"}, "control character"),
        ({"k": 1}, "must be text"),
    ],
)
def test_a_bad_label_is_refused_and_named(labels, message):
    with pytest.raises(InvalidInputError, match=message):
        services.validate_labels(labels)


def test_good_labels_are_stored_sorted():
    labels = {"tier": "gold", "a/b": "", "region": "Zürich <b>"}
    assert list(services.validate_labels(labels)) == ["a/b", "region", "tier"]


def test_an_agent_enrols_once_with_a_token():
    cluster = new_cluster()
    token = enrolment.issue_join_token(cluster, actor="test", now=NOW)
    reply = enrol(token)
    assert (reply.cluster_id, reply.cluster_name, reply.services) == (
        cluster.pk, "site-1", ["agent"],
    )  # fmt: skip
    cluster.refresh_from_db()
    assert (cluster.status, cluster.kind, cluster.agent_version) == ("active", "host", "0.1.0")
    assert cluster.enrolled_at == NOW
    key = cluster.keys.get()
    assert (key.status, key.public_key) == ("active", " ".join(public_key().split()[:2]))
    with pytest.raises(EnrolmentRefusedError, match="used already"):
        enrol(token, "another")
    assert list(AuditEvent.objects.values_list("action", "ok")[2:]) == [
        ("agent.enrol", True), ("agent.enrol", False),
    ]  # fmt: skip


def test_an_agent_that_lost_the_answer_gets_it_again_and_nothing_changes():
    cluster = new_cluster()
    token = enrolment.issue_join_token(cluster, actor="test", now=NOW)
    first = enrol(token)
    again = enrol(token, now=NOW + timedelta(minutes=59))
    assert again == first
    cluster.refresh_from_db()
    assert (cluster.enrolled_at, cluster.keys.count()) == (NOW, 1)
    line = AuditEvent.objects.last()
    assert (line.action, line.ok, line.detail["repeated"]) == ("agent.enrol", True, True)
    assert JoinToken.objects.get().used_at == NOW


@pytest.mark.parametrize("end", ["expired", "revoked", "replaced"])
def test_the_answer_is_not_repeated_once_its_time_or_its_key_is_over(end):
    cluster = new_cluster()
    token = enrolment.issue_join_token(cluster, actor="test", now=NOW)
    enrol(token)
    cluster.refresh_from_db()
    if end == "revoked":
        services.revoke_cluster(cluster, actor="test", now=NOW)
    if end == "replaced":
        enrolment.register_key(cluster, public_key("newer"), actor="test", now=NOW)
    with pytest.raises(EnrolmentRefusedError, match="used already"):
        enrol(token, now=NOW + timedelta(minutes=60 if end == "expired" else 1))
    assert cluster.keys.filter(status="active").count() == (0 if end == "revoked" else 1)


def test_the_token_is_stored_only_as_a_hash():
    token = enrolment.issue_join_token(new_cluster(), actor="test", now=NOW)
    assert token.startswith("ocj_")
    assert token not in str(list(JoinToken.objects.values()))
    assert token not in str(list(AuditEvent.objects.values()))


def test_an_expired_token_is_refused_with_its_time():
    token = enrolment.issue_join_token(new_cluster(), actor="test", now=NOW)
    with pytest.raises(EnrolmentRefusedError, match="expired at 2026-03-01 13:00 UTC"):
        enrol(token, now=NOW + timedelta(hours=1))


def test_an_unknown_token_is_refused_and_logged():
    with pytest.raises(EnrolmentRefusedError, match="not known"):
        enrol("ocj_guess\ud800")
    line = AuditEvent.objects.get()
    assert (line.ok, line.actor, line.cluster_id) == (False, "agent 192.0.2.7", None)


def test_a_new_token_ends_the_unused_one_before():
    cluster = new_cluster()
    old = enrolment.issue_join_token(cluster, actor="test", now=NOW)
    enrolment.issue_join_token(cluster, actor="test", now=NOW)
    with pytest.raises(EnrolmentRefusedError, match="not known"):
        enrol(old)


def test_a_new_key_retires_the_one_before():
    cluster = new_cluster()
    for seed in ("first", "second"):
        enrol(enrolment.issue_join_token(cluster, actor="test", now=NOW), seed)
    assert sorted(cluster.keys.values_list("status", flat=True)) == ["active", "retired"]


def test_the_same_key_may_enrol_again_for_the_same_cluster():
    cluster = new_cluster()
    for _ in range(2):
        enrol(enrolment.issue_join_token(cluster, actor="test", now=NOW))
    assert cluster.keys.get().status == "active"


def test_a_key_of_another_cluster_is_refused_and_the_token_stays_valid():
    enrol(enrolment.issue_join_token(new_cluster("one"), actor="test", now=NOW))
    token = enrolment.issue_join_token(new_cluster("two"), actor="test", now=NOW)
    with pytest.raises(EnrolmentRefusedError, match="cannot be used"):
        enrol(token)
    assert enrol(token, "fresh").cluster_name == "two"


@pytest.mark.parametrize(
    "key",
    [
        "", "ssh-ed25519", "ssh-ed25519 !!!!", "ssh-rsa AAAAB3NzaC1yc2E=", "ssh-ed25519 AAAA",
        'command="x" ssh-ed25519 AAAA', "ssh-ed25519 " + "A" * 68,
        public_key().replace("AAAAC3", "AAAAD3"),
    ],
)  # fmt: skip
def test_anything_but_a_complete_ed25519_key_is_refused(key):
    with pytest.raises(EnrolmentRefusedError, match="The key"):
        parse_public_key(key)


def test_the_fingerprint_is_that_of_openssh():
    line = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl x"
    fingerprint = "SHA256:+DiY3wvvV6TuJJhbpZisF/zLDA0zPMSvHdkr4UvCOqU"
    assert parse_public_key(line)[1] == fingerprint


def test_revoking_ends_keys_and_open_tokens_and_keeps_the_data():
    cluster = new_cluster()
    enrol(enrolment.issue_join_token(cluster, actor="test", now=NOW))
    open_token = enrolment.issue_join_token(cluster, actor="test", now=NOW)
    services.revoke_cluster(cluster, actor="test", now=NOW)
    cluster.refresh_from_db()
    assert (cluster.status, cluster.current.state) == ("revoked", "revoked")
    assert cluster.keys.get().status == ClusterKey.Status.REVOKED
    with pytest.raises(EnrolmentRefusedError, match="not known"):
        enrol(open_token, "new")


def test_a_revoked_key_never_comes_back_but_a_new_one_may():
    cluster = new_cluster()
    enrol(enrolment.issue_join_token(cluster, actor="test", now=NOW))
    services.revoke_cluster(cluster, actor="test", now=NOW)
    token = enrolment.issue_join_token(cluster, actor="test", now=NOW)
    with pytest.raises(EnrolmentRefusedError, match="cannot be used"):
        enrol(token)
    enrol(token, "new")
    cluster.refresh_from_db()
    assert cluster.status == "active"


def test_a_pasted_key_activates_the_cluster(operator):
    cluster = new_cluster()
    key = enrolment.register_key(cluster, public_key(), actor=operator, now=NOW)
    assert (cluster.status, key.status) == ("active", "active")
    with pytest.raises(InvalidInputError, match="public_key"):
        enrolment.register_key(cluster, "ssh-rsa AAAA", actor=operator, now=NOW)


def test_deleting_leaves_only_the_audit_log():
    cluster = ClusterFactory()
    services.delete_cluster(cluster, actor="test")
    assert not Cluster.objects.exists()
    assert AuditEvent.objects.get().detail == {
        "name": cluster.name,
        "customer": cluster.customer.name,
        "customer_id": str(cluster.customer_id),
    }


def test_hostile_agent_texts_are_cut_and_cleaned():
    cluster = new_cluster()
    enrolment.enrol(
        token=enrolment.issue_join_token(cluster, actor="test", now=NOW),
        public_key=public_key(),
        agent_version="1\n\x1b[31m" + "x" * 500,
        kind="k\u202e" + "y" * 99,
        remote_address="192.0.2.7",
        now=NOW,
    )
    cluster.refresh_from_db()
    assert cluster.agent_version.isprintable()
    assert len(cluster.agent_version) <= 40
    assert len(cluster.kind) <= 20


def test_services_are_allowed_and_refused_with_audit_lines(operator):
    cluster = new_cluster()
    assert services.allow_service(cluster, "prometheus", actor=operator)
    assert not services.allow_service(cluster, "prometheus", actor=operator)
    cluster.refresh_from_db()
    assert cluster.allowed_services == ["agent", "prometheus"]
    assert services.refuse_service(cluster, "prometheus", actor=operator)
    assert not services.refuse_service(cluster, "prometheus", actor=operator)
    assert not services.refuse_service(cluster, "agent", actor=operator)
    cluster.refresh_from_db()
    assert cluster.allowed_services == ["agent"]
    lines = AuditEvent.objects.filter(action="cluster.services").order_by("id")
    assert [line.detail["after"] for line in lines] == [["agent", "prometheus"], ["agent"]]
    with pytest.raises(InvalidInputError, match="service: 'mysql' is none of"):
        services.allow_service(cluster, "mysql", actor=operator)
