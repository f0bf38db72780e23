"""A cluster to pull from: our own agent's, or one with a scripted source."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from clusters.models import Cluster
from tests.metrics.pulling.outages import T0, make_site
from tests.metrics.pulling.scripted import (
    ScriptedSource,
    answer_as,
)
from tests.metrics.pulling.spooled import SpooledAgent


@pytest.fixture
def agent(stand, pullable, tmp_path) -> Iterator[SpooledAgent]:
    one = SpooledAgent(stand, tmp_path / "spool.sqlite3")
    stand.serve(pullable, one.app)
    yield one
    one.close()


@pytest.fixture
def source(monkeypatch) -> ScriptedSource:
    one = ScriptedSource(born=T0)
    answer_as(monkeypatch, "influxdb", one)
    return one


@pytest.fixture
def site(db, store, redis_server, source, admin) -> Cluster:
    return make_site(admin)
