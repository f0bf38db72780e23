"""The list of the kinds of sources, and what must agree with it."""

from __future__ import annotations

from typing import get_args

import pytest

from clusters.tunnel.protocol import SERVICE_PORTS
from metrics.models import MetricSource
from metrics.sources.etcd import EtcdSource
from metrics.sources.kinds import KINDS, LABELS, Limits, Role

LIMITS = Limits(budget_seconds=5.0, max_bytes=1_000_000)
every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


@every_kind
def test_every_kind_has_an_adapter_of_its_role(kind):
    adapter = kind.adapter({name: text or "x" for name, text in kind.settings.items()}, LIMITS)
    assert callable(adapter.probe)
    assert isinstance(adapter, EtcdSource) is (kind.role == "etcd")
    if kind.role == "main":
        assert adapter.resolutions
        assert adapter.longest_request_seconds > 0


@every_kind
def test_every_kind_has_a_title_and_a_service_that_a_tunnel_can_carry(kind):
    assert kind.title
    assert kind.service in SERVICE_PORTS
    assert kind.service != "agent"


@every_kind
def test_all_that_can_be_set_has_a_label(kind):
    for name in (*kind.every_setting, *kind.every_secret):
        assert LABELS[name][0]


def test_every_label_is_of_something_that_can_be_set():
    names = {name for k in KINDS.values() for name in (*k.every_setting, *k.every_secret)}
    assert set(LABELS) == names


def test_the_roles_are_those_of_stored_sources():
    assert set(get_args(Role)) == set(MetricSource.Role.values)
    assert {kind.role for kind in KINDS.values()} == set(MetricSource.Role.values)
