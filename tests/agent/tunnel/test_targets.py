"""The agent's allow-list."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.tunnel.targets import (
    SERVICE_PORTS,
    AllowList,
    TargetError,
    TcpTarget,
    UnixTarget,
    parse_services,
)
from clusters.tunnel import protocol


def test_both_ends_of_the_tunnel_agree_on_names_and_ports():
    assert dict(SERVICE_PORTS) == protocol.SERVICE_PORTS


def test_the_agents_own_api_comes_first_and_has_the_only_target_that_is_set_here():
    listed = parse_services({"prometheus": "p:9090"}).with_agent(UnixTarget("/run/a.sock"))
    assert listed.forwards() == [
        ("agent", 9099, UnixTarget("/run/a.sock")),
        ("prometheus", 9090, TcpTarget("p", 9090)),
    ]


def test_a_service_without_a_target_is_never_offered():
    # `ssh -R name:port` without a target is a SOCKS proxy: nothing here can say that.
    for empty in ("", ":", "host:", ":9090", None, 5, []):
        with pytest.raises(TargetError, match="must read host:port"):
            parse_services({"prometheus": empty})


@given(st.text(st.sampled_from(string.printable), max_size=30))
def test_a_target_is_one_host_and_one_port_or_refused(text):
    try:
        (target,) = parse_services({"prometheus": text}).targets.values()
    except TargetError:
        return
    if isinstance(target, TcpTarget):
        assert 0 < target.port < 65536
        assert target.host
        assert not set(target.host) & set(" /@*\t\r\n,")
    else:
        assert target.path.startswith("/")


def test_an_empty_list_offers_nothing():
    assert AllowList().forwards() == []
    assert parse_services("").forwards() == []
