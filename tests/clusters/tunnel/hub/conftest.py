"""A Redis for the hub, and what its log holds of a session."""

from __future__ import annotations

import shutil
import subprocess
from datetime import UTC, datetime, timedelta

import pytest
from redis import Redis

from clusters.models import TunnelSession
from tests.clusters.tunnel.conftest import until


async def row_of(session):
    return await TunnelSession.objects.aget(id=session.id)


async def ended(hub, session):
    await until(lambda: session.state == "gone", what="the session's end")
    await hub.recorder.flushed()
    return await row_of(session)


@pytest.fixture
def redis_url(short_directory):
    """A private redis-server on a unix socket."""
    path = short_directory / "redis.sock"
    binary = shutil.which("redis-server")
    assert binary, "redis-server is needed: apt-get install redis-server"
    process = subprocess.Popen(
        [binary, "--port", "0", "--unixsocket", str(path), "--save", "", "--appendonly", "no",
         "--dir", str(short_directory), "--loglevel", "warning"]
    )  # fmt: skip
    url = f"unix://{path}"
    client = Redis.from_url(url)
    deadline = datetime.now(UTC) + timedelta(seconds=20)
    while not path.exists():
        assert process.poll() is None
        assert datetime.now(UTC) < deadline
    client.ping()
    client.close()
    yield url
    process.terminate()
    process.wait()
