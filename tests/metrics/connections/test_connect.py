"""From a stored source to the adapter that reads it."""

from __future__ import annotations

import pytest

from metrics.connections.config import SourceConfig, read_config
from metrics.connections.connect import adapter, main_adapter
from metrics.sources.etcd import EtcdSource
from metrics.sources.influxdb1.source import InfluxSource
from opscenter.core.errors import InvalidInputError


def test_a_kind_is_read_by_its_adapter():
    assert isinstance(main_adapter(read_config("influxdb")), InfluxSource)
    assert isinstance(adapter(read_config("etcd")), EtcdSource)


@pytest.mark.parametrize("kind", ["etcd", "graphite"])
def test_what_is_no_main_source_is_refused_by_name(kind):
    with pytest.raises(InvalidInputError, match=f"{kind} is not a main source in this version"):
        main_adapter(SourceConfig(kind, "etcd"))


def test_what_an_adapter_cannot_use_is_an_error_of_the_settings():
    stored = SourceConfig("influxdb", "influxdb", settings={"database": "k8s\0"})
    with pytest.raises(InvalidInputError, match=r"settings: .* cannot be named in InfluxQL"):
        adapter(stored)
