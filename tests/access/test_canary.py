"""Nothing of another customer is in any byte of an answer: a marker in every text proves it."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from django.db import models
from django.test import Client

from clusters.models import (
    AuditEvent,
    Cluster,
    ClusterKey,
    ClusterStatus,
    Customer,
    JoinToken,
    LegalHold,
    TunnelSession,
)
from metrics.models import CustomerRetention, RetentionClass
from metrics.query import STREAM
from metrics.series.catalog import CATALOG, default_limits
from metrics.series.rows import SeriesInfo, SeriesKey
from metrics.stores.writer import Batch
from tests.access.routes import ROUTES
from tests.factories import NOW
from tests.metrics.stores.contract import T0, row, window

pytestmark = pytest.mark.django_db
MARKER = "canary7f3a91"
ASKED = "canary7f3"  # finds the marker, and is not it, as pages repeat what was searched
SEARCHES = [
    "/prometheus/api/v1/label/cluster_name/values", "/prometheus/api/v1/label/node/values",
    "/prometheus/api/v1/query?query=opscenter_node_cpu_mc", "/pods/?over=90d", "/api/v1/top",
    f"/?q={ASKED}", f"/pods/?q={ASKED}", f"/api/v1/clusters/?q={ASKED}",
    "/api/v1/clusters/?page_size=500", "/?view=grid", "/?group=customer",
    *(f"{{cluster}}pods?q={ASKED}&order={order}" for order in ("name", "cpu_mc")),
    *(f"/clusters/{{id}}/?tab={tab}"
      for tab in ("overview", "nodes", "pods", "data", "tunnel", "settings")),
]  # fmt: skip


def marked(model: type[models.Model], **values: Any) -> Any:
    """Create a row whose every text, JSON and name holds the marker."""
    for field in model._meta.concrete_fields:
        if field.name in values or field.choices or field.primary_key:
            continue
        if isinstance(field, models.CharField):
            values[field.name] = f"{MARKER}-{field.name}"[: field.max_length]
        elif isinstance(field, models.JSONField):
            empty = field.get_default()
            values[field.name] = {MARKER: MARKER} if isinstance(empty, dict) else [MARKER]
        elif isinstance(field, models.DateTimeField):
            values[field.name] = NOW
    return model.objects.create(**values)


@pytest.fixture
def bird(db, store) -> Cluster:
    """Another customer's cluster, the marker in everything that holds text."""
    cluster = marked(Cluster, customer=marked(Customer), status="active")
    marked(ClusterStatus, cluster=cluster, state="ok", was="", cpu_history=[])
    for model in (ClusterKey, JoinToken, TunnelSession):
        marked(model, cluster=cluster)
    marked(AuditEvent, cluster_id=cluster.pk)
    marked(LegalHold, customer=cluster.customer, cluster=None)
    chosen = marked(RetentionClass, limits=default_limits(), is_default=False)
    CustomerRetention.objects.create(customer=cluster.customer, retention_class=chosen)
    keys = {kind: SeriesKey(kind, f"{MARKER}-ns", f"{MARKER}-{kind}") for kind in CATALOG}
    store.write(
        cluster.pk,
        STREAM,
        Batch(
            rows=[row(key, T0) for kind, key in keys.items() if kind != "cluster"],
            infos=[SeriesInfo(key, MARKER, {MARKER: MARKER}) for key in keys.values()],
            windows=[window(T0, T0 + 60, "gap", detail=MARKER)],
            head=T0 + 60,
        ),
    )
    return cluster


def addresses(own: Cluster, other: Cluster) -> list[str]:
    """Return every GET of the table, for the viewer's cluster, the other one and none."""
    ids = (str(own.pk), str(other.pk), str(uuid4()))
    customers = (str(own.customer_id), str(other.customer_id), str(uuid4()))
    table = {line.url for lines in ROUTES.values() for line in lines if line.method == "GET"}
    found = {
        url.format(cluster=pk, customer=customer)
        for url in table
        for pk, customer in zip(ids, customers, strict=True)
    }
    for url in SEARCHES:
        found |= {url.format(cluster=f"/api/v1/clusters/{pk}/", id=pk) for pk in ids}
    return sorted(found)


def test_the_marker_is_found_by_those_who_may(client, operator, bird):
    client.force_login(operator, backend="django.contrib.auth.backends.ModelBackend")
    for url in ("/", "/api/v1/clusters/", f"/api/v1/clusters/{bird.pk}/pods"):
        assert MARKER.encode() in client.get(url).content, url


@pytest.mark.parametrize("who", ["viewer", "stranger", "anonymous"])
def test_the_marker_is_in_no_answer_of_anybody_else(who, request, bird, cluster):
    # From elsewhere: a visitor from this very machine may scrape /metrics, names and all.
    client = Client(raise_request_exception=False, REMOTE_ADDR="203.0.113.5")
    if who != "anonymous":
        user = request.getfixturevalue(who)
        client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    for url in addresses(cluster, bird):
        response = client.get(url)
        # Nothing runs beside these tests, and no cluster tunnels.
        assert response.status_code < 500 or url == "/readyz" or "/raw?" in url, url
        content = b"".join(response) if response.streaming else response.content
        assert MARKER.encode() not in content, url
        assert MARKER not in str(response.headers), url
