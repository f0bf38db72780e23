"""The one row of a unique key."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from clusters.models import Cluster
from opscenter.core.single_row import single

pytestmark = pytest.mark.django_db


def test_the_row_of_a_key_is_read_without_sorting(cluster, foreign_cluster):
    with CaptureQueriesContext(connection) as asked:
        assert single(Cluster.objects.filter(pk=cluster.pk)) == cluster
    (query,) = asked
    assert "ORDER BY" not in query["sql"]


def test_a_key_that_nothing_has_gives_nothing(cluster):
    assert single(Cluster.objects.filter(name="none")) is None
