"""Fixtures of the agent's tests."""

from __future__ import annotations

import socket

import pytest


@pytest.fixture(autouse=True)
def _no_ambient_configuration(monkeypatch):
    """Keep the machine's own proxies and agent variables out of the tests."""
    import os

    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name.startswith("OPSCENTER_AGENT_"):
            monkeypatch.delenv(name)


@pytest.fixture
def unused_port(starts_servers):
    """A port of loopback on which nothing listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]
