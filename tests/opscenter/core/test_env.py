"""Environment variables: what is accepted and what is refused."""

from __future__ import annotations

import subprocess
import sys

import pytest
from django.core.exceptions import ImproperlyConfigured

from opscenter.core.env import (
    check_heartbeat_limit,
    env_former_keys,
    env_gateway_url,
    env_host_port,
    env_hosts,
    env_match,
    env_networks,
    env_origins,
    env_secret,
    env_url,
    is_host,
)


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


def test_host_names_and_wildcards_are_distinguished_from_addresses():
    assert all(map(is_host, ["ops", ".example.org", "*", "10.0.0.1", "[::1]", "::1"]))
    assert not any(map(is_host, ["http://ops", "ops/x", "a b", "ops,x", ""]))


@pytest.mark.parametrize(
    ("reader", "value"),
    [
        (env_hosts, "ops, .example.org,[::1]"),
        (env_origins, "https://ops, http://ops:8000"),
        (env_networks, "10.0.0.1, 10.0.0.0/8,::1"),
        (env_former_keys, "a-key-of-twenty-chars,another-key-of-twenty-"),
    ],
)
def test_a_list_is_taken_apart_at_its_commas(monkeypatch, reader, value):
    monkeypatch.setenv("LIST", value)
    assert reader("LIST") == [part.strip() for part in value.split(",")]


@pytest.mark.parametrize(
    ("reader", "value", "said"),
    [
        (env_hosts, "ops,a b", "LIST: 'a b' is not a host name"),
        (env_origins, "https://ops,ops", "LIST: 'ops' is not like https://host"),
        (env_origins, "https://ops/path", "LIST: 'https://ops/path' is not like https://host"),
        (env_networks, "::1,10.0.0", "LIST: '10.0.0' is no address or network"),
        (env_former_keys, "short", "LIST: each earlier key has at least 20 characters"),
    ],
)
def test_what_does_not_belong_in_a_list_is_refused_by_name(monkeypatch, reader, value, said):
    monkeypatch.setenv("LIST", value)
    with pytest.raises(ImproperlyConfigured) as refused:
        reader("LIST")
    assert str(refused.value) == said


def test_networks_that_are_not_set_are_the_default(monkeypatch):
    monkeypatch.delenv("LIST", raising=False)
    assert env_networks("LIST", ("::1",)) == ["::1"]


def test_text_that_does_not_match_as_a_whole_is_refused_in_words(monkeypatch):
    monkeypatch.setenv("ID", "hub 1")
    with pytest.raises(ImproperlyConfigured, match="ID='hub 1' is not a few letters"):
        env_match("ID", "hub", "[a-z]{1,40}", "a few letters")
    monkeypatch.setenv("ID", "edge")
    assert env_match("ID", "hub", "[a-z]{1,40}", "a few letters") == "edge"


@pytest.mark.parametrize("value", ["unix:///run/gateway.sock", "tcp://hub:2281"])
def test_a_gateway_is_a_socket_or_a_host_and_port(monkeypatch, value):
    monkeypatch.setenv("GATEWAY", value)
    assert env_gateway_url("GATEWAY", "unix:///default") == value


@pytest.mark.parametrize("value", ["unix://relative", "tcp://hub", "http://hub:1", "/run/socket"])
def test_no_gateway_is_refused_by_name(monkeypatch, value):
    monkeypatch.setenv("GATEWAY", value)
    with pytest.raises(ImproperlyConfigured, match=r"GATEWAY='.*' is neither unix:///path nor tcp"):
        env_gateway_url("GATEWAY", "unix:///default")


def test_a_secret_that_something_needs_is_missed_by_name(monkeypatch):
    monkeypatch.delenv("TOKEN", raising=False)
    monkeypatch.delenv("TOKEN_FILE", raising=False)
    assert env_secret("TOKEN") is None
    with pytest.raises(ImproperlyConfigured) as refused:
        env_secret("TOKEN", needed_by="STORE=far")
    assert str(refused.value) == "TOKEN (or TOKEN_FILE) is not set, and STORE=far needs it"


def test_a_limit_below_three_heartbeats_is_refused_with_both_names():
    check_heartbeat_limit(45, 15)
    with pytest.raises(ImproperlyConfigured, match=r"LIMIT_SECONDS=44 .*HEARTBEAT_SECONDS=15"):
        check_heartbeat_limit(44, 15)


@pytest.mark.usefixtures("starts_servers")
def test_the_environment_is_read_before_django_is_set_up():
    code = "import opscenter.core.env; from django.conf import settings; print(settings.configured)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_earlier_keys_may_be_lines_of_a_file_which_may_be_empty(monkeypatch, tmp_path):
    file = tmp_path / "former"
    monkeypatch.setenv("LIST_FILE", str(file))
    with pytest.raises(ImproperlyConfigured, match=r"LIST_FILE=.*cannot be read"):
        env_former_keys("LIST")
    file.write_text("")
    assert env_former_keys("LIST") == []
    file.write_text("a-key-of-twenty-chars\nanother-key-of-twenty-\n")
    assert env_former_keys("LIST") == ["a-key-of-twenty-chars", "another-key-of-twenty-"]
