"""The test stand of :mod:`tests.e2e.sources.stand`, once for all tests of this package."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from metrics.stores.influxdb.client import Influx, Server
from tests.e2e.sources.stand import Installation, Servers, installation, running_servers

STORES = ("sqlite", "influxdb")
_GIVEN = {"INFLUXDB_URL": "URL", "INFLUXDB_ORG": "ORG", "INFLUXDB_TOKEN": "TOKEN"}


@dataclass
class Stand:
    """The servers, and the centre of each store."""

    servers: Servers
    centres: dict[str, Installation]


@pytest.fixture(scope="package")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    directory = tmp_path_factory.mktemp("sources")
    wanted: dict[str, dict[str, str]] = {"sqlite": {}}
    prefix = f"e2e{uuid.uuid4().hex[:10]}"
    given = {
        name: os.environ.get(f"OPSCENTER_TEST_INFLUXDB_{short}", "")
        for name, short in _GIVEN.items()
    }
    if given["INFLUXDB_URL"]:
        wanted["influxdb"] = {
            "METRICS_STORE": "influxdb", "INFLUXDB_BUCKET_PREFIX": prefix, **given,
        }  # fmt: skip
    with contextlib.ExitStack() as stack:
        if given["INFLUXDB_URL"]:
            stack.callback(_drop_buckets, prefix, given)
        servers = stack.enter_context(running_servers(directory))
        with ThreadPoolExecutor(len(wanted)) as threads:  # they share the real time
            made = {
                store: threads.submit(
                    stack.enter_context,
                    installation(directory / store, servers, **environment),
                )
                for store, environment in wanted.items()
            }
            centres = {store: future.result(400) for store, future in made.items()}
        yield Stand(servers, centres)


def _drop_buckets(prefix: str, given: dict[str, str]) -> None:
    influx = Influx(Server(given["INFLUXDB_URL"], given["INFLUXDB_ORG"], given["INFLUXDB_TOKEN"]))
    for name, bucket in influx.buckets().items():
        if name.startswith(f"{prefix}_"):
            influx.drop_bucket(bucket)
    influx.close()


@pytest.fixture(params=STORES)
def here(stand: Stand, request: pytest.FixtureRequest) -> Installation:
    """The centre of one store; of InfluxDB 2 only where one is given to test with."""
    if request.param not in stand.centres:
        pytest.skip("OPSCENTER_TEST_INFLUXDB_URL names no InfluxDB 2 to test with")
    return stand.centres[request.param]
