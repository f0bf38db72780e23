"""Every endpoint answers what the OpenAPI schema says, whatever it is asked (schemathesis)."""

from __future__ import annotations

import pytest
import schemathesis
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import positive_data_acceptance

from clusters.models import ApiToken
from tests.budgets import forget_budgets
from tests.factories import ClusterFactory, TunnelSessionFactory, api_token, healthy

pytestmark = pytest.mark.django_db
URL = "/api/v1/schema/"


# Made when the tests are collected: schemathesis makes one test of each operation.
schema = schemathesis.openapi.from_wsgi(
    URL, get_wsgi_application(), config=schemathesis.config.SchemathesisConfig(seed=1)
)
# Texts with a NUL are answered 400 (test_schema.py), which a schema cannot say.
schema.config.generation.allow_x00 = False
schema.config.generation.deterministic = True


@pytest.fixture(autouse=True)
def _no_agent_dials_again(monkeypatch):
    """Do not wait for an agent to offer a service that was just allowed: there is none."""
    monkeypatch.setattr("metrics.connections.probe.WAIT_SECONDS", 0)


@pytest.fixture(autouse=True)
def _keep_the_connection():
    """Keep the test's database connection over requests, as Django's test client does."""
    signals = (request_started, request_finished)
    for signal in signals:
        signal.disconnect(close_old_connections)
    yield
    for signal in signals:
        signal.connect(close_old_connections)


few = settings(
    max_examples=15,
    derandomize=True,  # the same cases every time: what fails here fails again
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


def check(case, user) -> None:
    """Send the case and check the answer against the schema."""
    # Parameters that fit one by one but not together (a range that ends before it starts, a
    # field of another kind) are 400, which no schema can say.
    mixed = ("/range/", "/windows/", "/top/", "/raw/", "/exports/")
    mixed += ("/source/", "/etcd/", "/test/")
    excluded = [positive_data_acceptance] if case.operation.path.endswith(mixed) else []
    if case.operation.path.endswith("/raw/"):
        excluded.append(not_a_server_error)  # no cluster answers here, which is 503
    ApiToken.objects.all().delete()  # knox goes through all tokens of a user at each request
    case.call_and_validate(
        headers={"Authorization": f"Token {api_token(user)}"}, excluded_checks=excluded
    )


@schema.parametrize()
@few
def test_every_endpoint_keeps_the_schema(case, operator):
    forget_budgets()
    check(case, operator)


@schema.include(path_regex="cluster_id").parametrize()
@few
def test_every_endpoint_of_a_real_cluster_keeps_the_schema(case, operator):
    cluster = ClusterFactory(labels={"region": "eu"}, **healthy())
    TunnelSessionFactory(cluster=cluster)
    case.path_parameters["cluster_id"] = str(cluster.pk)
    check(case, operator)
