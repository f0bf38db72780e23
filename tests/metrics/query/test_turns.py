"""One user's ranges, lists, charts and files under way do not keep another's waiting."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from django.test import Client

from metrics.query import turns

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("store")]
SPAN = "start=1700000000&end=1700003600"
PATHS = [
    f"/api/v1/clusters/{{}}/range?kind=cluster&field=cpu_mc&{SPAN}",
    f"/api/v1/clusters/{{}}/range?kind=cluster&field=cpu_mc&{SPAN}&format=csv",
    f"/api/v1/clusters/{{}}/top?{SPAN}",
    f"/api/v1/top?{SPAN}&format=csv",
    "/clusters/{}/chart/cpu.json",
    "/clusters/{}/pods.csv",
]


def get(user, path):
    client = Client()
    client.force_login(user)
    return client.get(path)


@pytest.fixture
def of_the_user(viewer, monkeypatch):
    """All the turns that one user may have, held."""
    monkeypatch.setattr(turns, "WAIT_SECONDS", 0.01)
    with ExitStack() as held:
        for _ in range(turns.READS.shares["user"]):
            held.enter_context(turns.reading(viewer.pk))
        yield viewer


@pytest.mark.parametrize("path", PATHS)
def test_a_user_whose_turns_are_used_up_is_told_when_to_come_again(
    of_the_user, operator, cluster, path
):
    refused = get(of_the_user, path.format(cluster.pk))
    other = get(operator, path.format(cluster.pk))

    assert refused.status_code == 429, refused.content
    assert refused["Retry-After"]
    assert other.status_code == 200
