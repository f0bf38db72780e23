"""Why a session ended is said once, in a few words."""

from __future__ import annotations

import asyncssh
import pytest

from clusters.health_facts import UNSEEN_ENDS
from clusters.tunnel.hub.server import _describe_end


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (None, "closed by the agent"),
        (asyncssh.ConnectionLost("Connection lost"), "connection lost"),
        (asyncssh.ConnectionLost(""), "connection lost"),
        (asyncssh.ConnectionLost("Connection lost: no route"), "connection lost: no route"),
        (asyncssh.ConnectionLost("reset by peer"), "connection lost: reset by peer"),
        (ConnectionResetError("Connection lost"), "connection lost"),
        (ConnectionResetError(), "connection lost: ConnectionResetError"),
        (TimeoutError("timed out"), "connection lost: timed out"),
        (asyncssh.ProtocolError("bad packet"), "disconnected: bad packet"),
        (asyncssh.DisconnectError(11, "Disconnected: by us"), "disconnected: by us"),
        (asyncssh.DisconnectError(11, ""), "disconnected"),
        (
            asyncssh.ConnectionLost("Server not responding to keepalive messages"),
            "the agent did not answer keepalives",
        ),
    ],
)  # fmt: skip
def test_what_happened_is_said_once(error, words):
    assert _describe_end(error) == words


@pytest.mark.parametrize("claim", sorted(UNSEEN_ENDS))
def test_an_agent_cannot_claim_that_the_hub_was_killed(claim):
    assert _describe_end(asyncssh.DisconnectError(11, claim)) not in UNSEEN_ENDS
