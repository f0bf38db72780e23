"""What a peer says as often as it likes is few lines of the log."""

from __future__ import annotations

import logging

import asyncssh
import pytest

from clusters.tunnel.hub import session_log
from clusters.tunnel.hub.refusals import Event, Refusal
from opscenter.core.log_limits import LogWord, RateLimitedLog
from tests.clusters.tunnel.conftest import connect


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


async def test_different_forwards_are_one_line_and_a_count(hub, identity, caplog):
    caplog.set_level(logging.WARNING)
    clock = Clock()
    hub.context.log = RateLimitedLog(clock=clock)
    connection = await connect(hub, identity)
    for number in range(32):
        with pytest.raises(asyncssh.ChannelListenError):
            await connection.forward_remote_port(f"x{number}\n\x1b", 9090, "127.0.0.1", 9)
    connection.abort()
    await connection.wait_closed()
    lines = [one for one in caplog.records if "forward" in one.getMessage()]
    assert len(lines) == 1
    assert lines[0].cluster == str(identity.cluster.id)
    assert set(hub.context.log._windows) == {Refusal.FORWARD}

    clock.now += 60
    await hub._sweep()
    assert "a forward that is not allowed: 31 times more" in caplog.messages[-1]


async def test_refused_sign_ins_under_many_names_are_one_line(hub, identity, caplog):
    caplog.set_level(logging.WARNING)
    for number in range(30):
        with pytest.raises((asyncssh.PermissionDenied, asyncssh.ConnectionLost)):
            await connect(hub, identity, username=f"name-{number}")
    lines = [text for text in caplog.messages if "sign-in refused" in text]
    assert len(lines) == 1
    assert set(hub.context.log._windows) == {Refusal.NO_CLUSTER_ID}


def test_a_cluster_that_comes_and_goes_all_day_is_few_lines(monkeypatch):
    clock = Clock()
    log = RateLimitedLog(sources=10_000, lines=6, clock=clock)
    admitted = [log.admit("c1", Event.TUNNEL) for _ in range(1000)]
    assert sum(admitted) == 6
    assert log.admit("c2", Event.TUNNEL)  # and nobody else's are held back
    clock.now += 60
    assert list(log.ended()) == [(Event.TUNNEL, 994)]


def test_every_reason_of_a_refusal_is_a_word_of_ours():
    assert all(isinstance(one, LogWord) for one in (*Refusal, *Event))
    assert session_log.Admission.__annotations__["reason"] == "Refusal | None"
