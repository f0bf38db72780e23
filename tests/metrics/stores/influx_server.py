"""The InfluxDB 2 that the tests use, named by the environment; without one they are skipped."""

from __future__ import annotations

import os
from collections.abc import Iterator
from uuid import UUID, uuid4

import pytest

from metrics.catalog import FIELD_NAMES, TIERS
from metrics.stores.influxdb_client import Influx, Server

FOREVER = {kind: dict.fromkeys(TIERS, 0) for kind in FIELD_NAMES}


def server() -> Server:
    """Return the server; skip the test if the environment names none."""
    url = os.environ.get("OPSCENTER_TEST_INFLUXDB_URL", "")
    if not url:
        pytest.skip("OPSCENTER_TEST_INFLUXDB_URL names no InfluxDB 2 to test with")
    org = os.environ.get("OPSCENTER_TEST_INFLUXDB_ORG", "")
    return Server(url, org, os.environ.get("OPSCENTER_TEST_INFLUXDB_TOKEN", ""))


def own_prefix() -> Iterator[str]:
    """Yield a prefix of buckets that nobody else has; drop them afterwards."""
    prefix = f"test{uuid4().hex[:10]}"
    yield prefix
    influx = Influx(server())
    for name, bucket in influx.buckets().items():
        if name.startswith(f"{prefix}_"):
            influx.drop_bucket(bucket)
    influx.close()


def keep_for_ever(cluster: UUID) -> dict[str, dict[str, int]]:
    del cluster
    return FOREVER
