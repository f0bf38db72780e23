"""Lines that others can cause as often as they like are few, and what is held back is counted."""

from __future__ import annotations

import json
import logging
import socket
import subprocess
import sys

import pytest

from opscenter.core.log_limits import LogWord, OncePerMinute, RateLimitedLog
from tests.centre import ROOT, clean_environment


class Word(LogWord):
    FORWARD = "a forward that is not allowed"
    KEY = "the key is not registered"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log(clock) -> RateLimitedLog:
    return RateLimitedLog(clock=clock)


def test_one_source_writes_a_line_a_minute_for_each_reason(log, clock):
    assert [log.admit("192.0.2.1", Word.KEY) for _ in range(3)] == [True, False, False]
    assert log.admit("192.0.2.1", Word.FORWARD)
    assert log.admit("192.0.2.2", Word.KEY)
    clock.now += 60
    assert log.admit("192.0.2.1", Word.KEY)


def test_what_was_held_back_is_told_once_when_the_minute_is_over(log, clock):
    for _ in range(1000):
        log.admit("192.0.2.1", Word.FORWARD)
    assert list(log.ended()) == []
    clock.now += 60
    assert list(log.ended()) == [(Word.FORWARD, 999)]
    assert list(log.ended()) == []


def test_a_count_is_not_lost_when_the_next_line_comes_first(log, clock):
    for _ in range(5):
        log.admit("192.0.2.1", Word.KEY)
    clock.now += 60
    assert log.admit("192.0.2.1", Word.KEY)
    assert list(log.ended()) == [(Word.KEY, 4)]


def test_many_addresses_do_not_make_many_lines(log):
    admitted = [log.admit(f"192.0.2.{n % 250}", Word.KEY) for n in range(10_000)]
    assert sum(admitted) == 20
    assert len(log._windows[Word.KEY].told) == 20


def test_addresses_of_one_ipv6_network_are_one_source(log):
    assert [log.admit(f"2001:db8::{n:x}", Word.KEY) for n in range(3)] == [True, False, False]
    assert log.admit("2001:db8:1::1", Word.KEY)


def test_words_of_others_are_no_keys(log):
    with pytest.raises(TypeError):
        log.admit("192.0.2.1", "forward x0:9090")  # type: ignore[arg-type]


def accept_error(number: int) -> logging.LogRecord:
    text = f"socket.accept() out of system resource\nsocket: <fd={number}>"
    return logging.LogRecord("asyncio", logging.ERROR, __file__, 1, text, (), None)


def test_asyncios_complaint_about_descriptors_comes_once_a_minute_with_its_count(clock):
    once = OncePerMinute("socket.accept() out of system resource", clock=clock)
    first = accept_error(0)
    assert once.filter(first)
    assert "\n" not in first.getMessage()
    assert not any(once.filter(accept_error(n)) for n in range(1_000))
    clock.now += 60
    next_one = accept_error(0)
    assert once.filter(next_one)
    assert "1000 times more" in next_one.getMessage()


def test_other_lines_of_asyncio_pass(clock):
    once = OncePerMinute("socket.accept() out of system resource", clock=clock)
    record = logging.LogRecord("asyncio", logging.ERROR, __file__, 1, "Task was %s", ("x",), None)
    assert once.filter(record)
    assert once.filter(record)
    assert record.getMessage() == "Task was x"


SERVER = """
import asyncio, logging.config, resource
from opscenter.core.logs import logging_config

async def answer(reader, writer):
    writer.write(await reader.readline())

async def main():
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

logging.config.dictConfig(logging_config("INFO", "json"))
resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))
asyncio.run(main())
"""


@pytest.mark.usefixtures("starts_servers")
def test_a_server_without_descriptors_says_so_once_and_goes_on():
    with subprocess.Popen(
        [sys.executable, "-c", SERVER], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=clean_environment(PYTHONPATH=str(ROOT)),
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        address = ("127.0.0.1", int(process.stdout.readline()))
        taken = [socket.create_connection(address) for _ in range(60)]
        first = json.loads(process.stderr.readline())
        assert first["message"].startswith("socket.accept() out of system resource")
        for one in taken:
            one.close()
        with socket.create_connection(address) as last:  # it is accepted a second later
            last.sendall(b"still there\n")
            assert last.recv(100) == b"still there\n"
        process.kill()
        assert process.stderr.read() == b""
