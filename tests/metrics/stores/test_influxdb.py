"""The InfluxDB store against a real InfluxDB 2: the contract, and what is special about it."""

from __future__ import annotations

import pytest

from metrics.stores.influxdb import InfluxStore
from tests.metrics.stores.contract import StoreContract
from tests.metrics.stores.influx_server import keep_for_ever, own_prefix, server

pytestmark = pytest.mark.django_db


@pytest.fixture(scope="module")
def prefix():
    server()
    yield from own_prefix()


@pytest.fixture
def new_store(prefix):
    made = []

    def new(kept=keep_for_ever, **options):
        made.append(InfluxStore(server(), kept, prefix=prefix, **options))
        return made[-1]

    yield new
    for store in made:
        store.close()


@pytest.fixture
def store(new_store):
    return new_store()


class TestInfluxdb(StoreContract):
    @pytest.fixture
    def new_store(self, new_store):
        return new_store
