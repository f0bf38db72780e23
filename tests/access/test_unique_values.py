"""Nobody learns by writing which names, keys and ids others have: taken and free answer alike.

Every endpoint that changes something gets every unique value of another customer, and one of the
same form that nobody has, in every field that it could take it in.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from uuid import uuid4

import orjson
import pytest
from django.apps import apps
from django.contrib.auth.models import Group, User
from django.core.cache import cache
from django.db import models, transaction
from django.http import HttpResponse
from django.test import Client

from clusters.enrolment import services as enrolment
from clusters.models import Cluster, ClusterKey, JoinToken
from metrics.models import RetentionClass
from metrics.series.catalog import default_limits
from tests.access.routes import ROUTES, Expect
from tests.clusters.test_services import public_key
from tests.factories import UserFactory, grant

pytestmark = pytest.mark.django_db
LINES = [
    line
    for lines in ROUTES.values()
    for line in lines
    if line.method in ("POST", "PUT", "PATCH") and "/prometheus/" not in line.url
]
# Unique over all customers; the test below finds them. Digests are of secrets of 256 bits.
UNIQUE = {
    "auth.Group.name", "auth.User.username", "clusters.Cluster.name", "clusters.Customer.name",
    "clusters.ClusterKey.fingerprint", "clusters.JoinToken.digest", "clusters.AuditEvent.digest",
    "clusters.ApiToken.digest", "metrics.RetentionClass.name",
}  # fmt: skip
TEXT_FIELDS = ("name", "customer", "username", "confirm", "reason")
_CHANGING = re.compile(
    r"[0-9a-f]{8}-[0-9a-f-]{27}|\d{4}-\d\d-\d\d[T ][\d:.]+(Z|\+00:00)?|ocj_[\w-]+"
    # Now, in whatever form, and the age of what is there.
    r"|\b1[789]\d{8}\b(\.\d+)?|(?<=_seconds\":)[\d.]+"
    r'|csrfmiddlewaretoken" value="\w+|"csrf": ?"\w+|nonce="[^"]*|X-CSRFToken": "\w+'
)


@dataclass(frozen=True)
class Pair:
    """A value that somebody else has, one that nobody has, and the fields that could take it."""

    taken: str
    free: str
    fields: tuple[str, ...]


@pytest.fixture
def delegate(cluster: Cluster) -> User:
    """Somebody who may act on one cluster, and on nothing else."""
    user = UserFactory(username="delegate")
    grant(user, "operate_cluster", cluster)
    grant(user, "view_customer", cluster.customer)
    return user


@pytest.fixture
def pairs(foreign_cluster: Cluster) -> list[Pair]:
    """Every unique value of another customer."""
    UserFactory(username="somebody-else")
    Group.objects.create(name="group-of-others")
    RetentionClass.objects.create(name="class-of-others", limits=default_limits())
    token = enrolment.issue_join_token(foreign_cluster, actor="test")
    customer = foreign_cluster.customer
    assert customer is not None
    names = (
        *(foreign_cluster.name, customer.name, "somebody-else"),
        *("group-of-others", "class-of-others"),
    )
    return [
        *(
            Pair(name, f"{name[:-1]}~"[: len(name)].replace("~", "z"), TEXT_FIELDS)
            for name in names
        ),
        Pair(JoinToken.objects.get().digest, "0" * 64, ("token", "name")),
        Pair(str(customer.pk), str(uuid4()), ("customer_id", "customer")),
        Pair(str(foreign_cluster.pk), str(uuid4()), ("cluster_id", "cluster")),
        Pair(token[:-1] + "x", "ocj_" + "x" * (len(token) - 4), ("token",)),
    ]


def test_every_unique_text_is_known_here():
    found = {
        f"{model._meta.label}.{field.name}"
        for label in ("auth", "clusters", "metrics")
        for model in apps.get_app_config(label).get_models()
        for field in model._meta.concrete_fields
        if field.unique and isinstance(field, models.CharField | models.TextField)
    }
    assert found - UNIQUE == set(), "show that nobody learns these, and add them"
    assert UNIQUE - found == set()


def ask(
    client: Client, line: Expect, own: Cluster, fields: tuple[str, ...], value: str
) -> HttpResponse:
    """Return the answer of an endpoint to a value in some fields; what it changed is undone."""
    ids = {"cluster": own.pk, "customer": own.customer_id}
    url = line.url.format(**ids)
    filled = dict.fromkeys(fields, value)
    cache.clear()  # what is throttled is not judged
    with transaction.atomic():
        if line.form is not None:
            answer = client.post(url, {**line.form, **filled})
        else:
            body = {
                key: given.format(**ids) if isinstance(given, str) else given
                for key, given in (line.body or {}).items()
            }
            sent = orjson.dumps({**body, **filled})
            answer = client.generic(line.method, url, sent, "application/json")
        transaction.set_rollback(True)
    return answer


def shown(answer: HttpResponse, value: str) -> tuple[int, str]:
    """Return an answer without what differs in each, and without the value itself."""
    text = answer.content.decode().replace(value, "VALUE")
    place = str(answer.headers.get("Location", "")).replace(value, "VALUE")
    return answer.status_code, _CHANGING.sub("*", f"{place}\n{text}")


@pytest.mark.parametrize("line", LINES, ids=[f"{line.method} {line.url}" for line in LINES])
def test_a_value_of_somebody_else_is_answered_as_one_that_nobody_has(
    line, client, delegate, cluster, pairs
):
    client.force_login(delegate, backend="django.contrib.auth.backends.ModelBackend")
    client.raise_request_exception = False
    for pair in pairs:
        taken = shown(ask(client, line, cluster, pair.fields, pair.taken), pair.taken)
        free = shown(ask(client, line, cluster, pair.fields, pair.free), pair.free)
        assert taken == free, pair
        assert taken[0] < 500


@pytest.mark.parametrize("name", ["south-1", "free-1"])
def test_who_acts_on_one_cluster_cannot_rename_it(client, delegate, cluster, foreign_cluster, name):
    client.force_login(delegate, backend="django.contrib.auth.backends.ModelBackend")
    url = f"/api/v1/clusters/{cluster.pk}/"
    answer = client.patch(url, {"name": name}, content_type="application/json")
    assert answer.status_code == 409
    assert "this name cannot be used" in answer.content.decode()
    assert name not in answer.content.decode()
    same = client.patch(
        url, {"name": "north-1", "labels": {"a": "b"}}, content_type="application/json"
    )
    assert same.status_code == 200
    cluster.refresh_from_db()
    assert (cluster.name, cluster.labels) == ("north-1", {"a": "b"})


def test_who_acts_on_all_renames_and_reads_what_is_taken(
    client, operator, cluster, foreign_cluster
):
    client.force_login(operator, backend="django.contrib.auth.backends.ModelBackend")
    url = f"/api/v1/clusters/{cluster.pk}/"
    taken = client.patch(url, {"name": "south-1"}, content_type="application/json")
    assert taken.status_code == 409
    assert "south-1 already exists" in taken.content.decode()
    free = client.patch(url, {"name": "north-2"}, content_type="application/json")
    assert free.json()["name"] == "north-2"


def key_answers(client: Client, own: Cluster, key: str) -> list[tuple[int, str]]:
    """Return what the page and an agent's enrolment answer to a key; what they change is undone."""
    with transaction.atomic():
        page = client.post(f"/clusters/{own.pk}/key/", {"public_key": key})
        token = enrolment.issue_join_token(own, actor="test")
        body = {"token": token, "public_key": key, "agent_version": "1", "kind": "host"}
        agent = client.post("/api/v1/agents/enrol", body, content_type="application/json")
        transaction.set_rollback(True)
    return [shown(page, key), shown(agent, key)]


def test_a_key_of_another_cluster_is_answered_as_a_revoked_one(
    client, delegate, cluster, foreign_cluster
):
    client.force_login(delegate, backend="django.contrib.auth.backends.ModelBackend")
    enrolment.register_key(foreign_cluster, public_key("theirs"), actor="test")
    own = enrolment.register_key(cluster, public_key("own"), actor="test")
    ClusterKey.objects.filter(pk=own.pk).update(status="revoked")
    theirs = key_answers(client, cluster, public_key("theirs"))
    assert theirs == key_answers(client, cluster, public_key("own"))
    for status, text in theirs:
        assert status in (403, 422)
        assert "This key cannot be used; make a new one." in text
