"""A cluster of the fleet, and somebody who may act on it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tests.factories import ClusterFactory, healthy


@pytest.fixture
def alpha(client, operator):
    client.force_login(operator)
    return ClusterFactory(name="alpha", labels={"region": "eu"}, **healthy(datetime.now(UTC)))
