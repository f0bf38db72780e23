"""The relay that other tests rely on to break connections."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from tests.faultproxy import FaultProxy


@pytest.fixture
async def echo_port(starts_servers):
    async def echo(reader, writer):
        with contextlib.suppress(OSError):
            while chunk := await reader.read(1024):
                writer.write(chunk)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def _open(proxy):
    return await asyncio.open_connection("127.0.0.1", proxy.port)


async def _echoes(reader, writer, text=b"hello"):
    writer.write(text)
    return await reader.readexactly(len(text)) == text


async def test_it_relays_both_ways_and_passes_the_end_on(echo_port):
    async with FaultProxy("127.0.0.1", echo_port) as proxy:
        reader, writer = await _open(proxy)
        assert await _echoes(reader, writer)
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()


async def test_a_black_hole_swallows_and_closes_nothing(echo_port):
    async with FaultProxy("127.0.0.1", echo_port) as proxy:
        reader, writer = await _open(proxy)
        assert await _echoes(reader, writer)
        proxy.black_hole = True
        writer.write(b"lost")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.2)
        writer.close()


async def test_one_direction_can_be_swallowed(echo_port):
    async with FaultProxy("127.0.0.1", echo_port) as proxy:
        reader, writer = await _open(proxy)
        proxy.black_hole = "down"
        writer.write(b"heard but never answered")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.2)
        writer.close()


async def test_a_reset_ends_open_connections_with_an_error(echo_port):
    async with FaultProxy("127.0.0.1", echo_port) as proxy:
        reader, writer = await _open(proxy)
        assert await _echoes(reader, writer)
        proxy.reset_all()
        with pytest.raises(ConnectionResetError):
            await reader.read(1)
        writer.close()


async def test_a_refusing_proxy_answers_nothing(echo_port):
    async with FaultProxy("127.0.0.1", echo_port) as proxy:
        proxy.refuse = True
        reader, writer = await _open(proxy)
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await _echoes(reader, writer)
        writer.close()


async def test_an_answer_can_be_cut_short(echo_port):
    async with FaultProxy("127.0.0.1", echo_port) as proxy:
        proxy.drop_after_bytes = 5
        reader, writer = await _open(proxy)
        assert await _echoes(reader, writer)
        assert await reader.read() == b""
        writer.close()
