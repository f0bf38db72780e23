"""Whose forwarded addresses are believed, and who seems to be a proxy that is not named."""

from __future__ import annotations

import pytest

from clusters.tunnel.hub.proxies import Proxies


@pytest.fixture
def proxies():
    return Proxies(["127.0.0.1", "10.0.0.0/8", "2001:db8::/32"])


@pytest.mark.parametrize("peer", ["127.0.0.1", "10.9.8.7", "::ffff:10.9.8.7", "2001:db8::1"])
def test_a_named_proxy_is_trusted_however_its_address_is_written(proxies, peer):
    assert proxies.is_trusted(peer)


@pytest.mark.parametrize("peer", ["127.0.0.2", "::1", "", "proxy.example.org"])
def test_nobody_else_is(proxies, peer):
    assert not proxies.is_trusted(peer)


@pytest.mark.parametrize(
    ("header", "address"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("6.6.6.6, 203.0.113.9", "203.0.113.9"),  # what a client claims comes first
        ("6.6.6.6, unknown", ""),
        ("", ""),
        ("6.6.6.6,", ""),
    ],
)
def test_only_the_address_that_the_nearest_proxy_adds_counts(proxies, header, address):
    assert proxies.forwarded(header) == address


def test_a_private_peer_that_forwards_is_noted_at_once(proxies, caplog):
    proxies.seen("192.168.1.1")
    proxies.seen("192.168.1.1")
    assert proxies.last_unknown_s is not None
    assert len(caplog.messages) == 1
    assert "192.168.1.1" in caplog.messages[0]


def test_a_public_peer_is_noted_only_once_an_agent_has_signed_in_through_it(proxies):
    proxies.seen("8.8.8.8")
    assert proxies.last_unknown_s is None
    proxies.signed_in("8.8.8.8")
    assert proxies.last_unknown_s is not None
