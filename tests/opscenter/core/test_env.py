"""Addresses in the environment: what is taken and what is refused."""

from __future__ import annotations

import pytest
from django.core.exceptions import ImproperlyConfigured

from opscenter.core.env import env_host_port, env_url, is_host


@pytest.mark.parametrize(
    "value", ["http://ops", "https://ops.example.org:8443/", "http://[::1]:8000", "http://10.0.0.1"]
)
def test_an_address_is_taken_as_it_is(monkeypatch, value):
    monkeypatch.setenv("URL", value)
    assert env_url("URL", "http://default", ("http", "https")) == value


@pytest.mark.parametrize(
    "value", ["ops", "ftp://ops", "http://", "http://[::1", "http://ops:x", "http://ops:99999",
              "http://ops:0", "http://a b", "http://%%:??", "http://öps"],
)  # fmt: skip
def test_no_address_is_refused_by_name(monkeypatch, value):
    monkeypatch.setenv("URL", value)
    with pytest.raises(ImproperlyConfigured, match=r"URL=.* is not an address like http://host or"):
        env_url("URL", "http://default", ("http", "https"))


def test_an_empty_address_is_the_default(monkeypatch):
    monkeypatch.setenv("URL", " ")
    assert env_url("URL", "http://default", ("http",)) == "http://default"


@pytest.mark.parametrize("value", ["ops:22", "ops.example.org:2222", "10.0.0.1:1", "[::1]:2222"])
def test_a_host_and_port_is_taken_as_it_is(monkeypatch, value):
    monkeypatch.setenv("HUB", value)
    assert env_host_port("HUB", "default:1") == value


@pytest.mark.parametrize(
    "value", ["ops", "ops:", ":22", "ops:x", "ops:22/x", "ops:70000", "::1:22:"]
)
def test_no_host_and_port_is_refused_by_name(monkeypatch, value):
    monkeypatch.setenv("HUB", value)
    with pytest.raises(ImproperlyConfigured, match=r"HUB='.*' is not like host:port"):
        env_host_port("HUB", "default:1")


def test_host_names_and_wildcards_are_told_from_addresses():
    assert all(map(is_host, ["ops", ".example.org", "*", "10.0.0.1", "[::1]", "::1"]))
    assert not any(map(is_host, ["http://ops", "ops/x", "a b", "ops,x", ""]))
