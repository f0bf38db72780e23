"""What is changed by a cluster's pages: labels, tokens, keys, revocation."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from clusters import services
from clusters.enrolment import services as enrolment
from clusters.models import AuditEvent, Cluster, ClusterKey
from tests.factories import public_key
from tests.opscenter.pages.measured import page

pytestmark = pytest.mark.django_db


def test_labels_are_saved_and_bad_ones_explained(client, alpha):
    url = f"/clusters/{alpha.pk}/labels/"
    assert client.post(url, {"labels": "tier=gold\nregion=us"}).status_code == 302
    alpha.refresh_from_db()
    assert alpha.labels == {"region": "us", "tier": "gold"}
    refused = client.post(url, {"labels": "no sign here"})
    assert refused.status_code == 422
    assert "is not of the form key=value" in refused.content.decode()
    assert "must be 1 to 63" in client.post(url, {"labels": "a b=c"}).content.decode()


def test_revoke_and_delete_require_the_name_and_are_audited(client, alpha):
    for what in ("revoke", "delete"):
        refused = client.post(f"/clusters/{alpha.pk}/{what}/", {"name": "beta"})
        assert refused.status_code == 422
        assert "The name does not match. Nothing was changed." in refused.content.decode()
    assert client.post(f"/clusters/{alpha.pk}/revoke/", {"name": "alpha"}).status_code == 302
    assert "revoked" in page(client, alpha, "tab=settings")
    assert client.post(f"/clusters/{alpha.pk}/delete/", {"name": "alpha"}).status_code == 302
    assert not Cluster.objects.exists()
    actions = list(AuditEvent.objects.values_list("action", flat=True))
    assert actions == ["cluster.revoke", "cluster.delete"]


def test_a_new_cluster_shows_its_token_once(client, operator):
    client.force_login(operator)
    answer = client.post(
        "/clusters/add/", {"name": "fresh", "customer": "Ada", "labels": "a=b, c=d"}
    )
    cluster = Cluster.objects.get(name="fresh")
    assert cluster.labels == {"a": "b", "c": "d"}
    assert cluster.customer.name == "Ada"
    text = answer.content.decode()
    assert text.count("ocj_") >= 3
    assert "SHA256:" in text
    join = f"/clusters/{cluster.pk}/join/"
    assert f'data-replace-url="{join}"' in text
    assert "ocj_" not in client.get(join).content.decode()
    assert "ocj_" in client.post(join).content.decode()


def test_a_refused_enrolment_is_shown_on_the_join_page(client, operator):
    from opscenter.core.errors import EnrolmentRefusedError

    client.force_login(operator)
    cluster = services.create_cluster(name="fresh", actor=operator)
    then = datetime.now(UTC) - timedelta(days=3)
    token = enrolment.issue_join_token(cluster, actor=operator, now=then)
    with pytest.raises(EnrolmentRefusedError):
        enrolment.enrol(
            token=token, public_key=public_key(), agent_version="1", kind="host",
            remote_address="192.0.2.1",
        )  # fmt: skip
    text = client.get(f"/clusters/{cluster.pk}/join/").content.decode()
    assert "The join token expired" in text
    assert "Waiting." in text


def test_a_pasted_key_is_registered_and_a_bad_one_explained(client, alpha):
    url = f"/clusters/{alpha.pk}/key/"
    bad = client.post(url, {"public_key": "ssh-rsa AAAA"})
    assert bad.status_code == 422
    assert "ssh-ed25519" in bad.content.decode()
    assert client.post(url, {"public_key": public_key("mine")}).status_code == 200
    assert ClusterKey.objects.get().cluster == alpha
