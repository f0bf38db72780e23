"""An accept loop without descriptors rests, says so once, and goes on when there are some."""

from __future__ import annotations

import asyncio
import socket
import sys

import pytest

from clusters.tunnel.hub.listeners import Acceptor
from tests.centre import ROOT

_CHILD = """
import asyncio, logging, resource, socket, sys
from pathlib import Path
from clusters.tunnel.hub.listeners import Acceptor

logging.basicConfig(stream=sys.stderr)
short = 0

async def serve(conn, address):
    await asyncio.get_running_loop().sock_sendall(conn, b"hello")

def when_short():
    global short
    short += 1
    return False

async def main():
    sock = socket.create_server(("127.0.0.1", 0))
    sock.setblocking(False)
    acceptor = Acceptor(sock, serve, when_short)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    files = []
    try:
        while True:
            files.append(Path("/dev/null").open())
    except OSError:
        print(sock.getsockname()[1], flush=True)
    while short < 4:
        await asyncio.sleep(0.05)
    files.clear()
    await asyncio.to_thread(sys.stdin.readline)
    print(short, flush=True)

asyncio.run(main())
"""


@pytest.mark.usefixtures("starts_servers")
async def test_without_descriptors_it_rests_and_goes_on_when_there_are_some():
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _CHILD, cwd=ROOT, stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert child.stdout is not None
    port = int(await child.stdout.readline())
    async with asyncio.timeout(60):
        for _ in range(3):  # they wait in the kernel's queue until there are descriptors
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            assert await reader.readexactly(5) == b"hello"
            writer.close()
        said, log = await child.communicate(b"\n")
    assert int(said) == 4  # one failed accept a turn, and a pause after each
    assert log.count(b"no connection can be accepted for the moment") == 1
    assert len(log.splitlines()) == 1


@pytest.mark.usefixtures("starts_servers")
async def test_a_closed_acceptor_accepts_nothing_and_may_be_closed_again():
    async def serve(sock, address):
        sock.close()

    sock = socket.create_server(("127.0.0.1", 0))
    sock.setblocking(False)
    port = sock.getsockname()[1]
    acceptor = Acceptor(sock, serve, lambda: False)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    assert await reader.read() == b""
    writer.close()
    acceptor.close()
    acceptor.close()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
