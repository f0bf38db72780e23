"""What the web process sets for itself when it starts to serve."""

from __future__ import annotations

from asgiref.testing import ApplicationCommunicator
from django.db import connection, connections

from opscenter.asgi import application


async def test_the_server_waits_only_briefly_for_a_lock(monkeypatch):
    settings = connections.settings["default"]
    before = dict(settings["OPTIONS"])
    monkeypatch.setitem(settings, "OPTIONS", dict(before))
    server = ApplicationCommunicator(application, {"type": "lifespan"})
    await server.send_input({"type": "lifespan.startup"})
    assert await server.receive_output() == {"type": "lifespan.startup.complete"}
    if connection.vendor == "sqlite":
        assert settings["OPTIONS"]["timeout"] < before["timeout"]
    else:
        assert "lock_timeout" in settings["OPTIONS"]["options"]
    await server.send_input({"type": "lifespan.shutdown"})
    assert await server.receive_output() == {"type": "lifespan.shutdown.complete"}
