"""Log lines never hold up a process, and the same error is told once a minute."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Iterator

import pytest

from opscenter.core.log_handler import NonBlockingHandler, Repeats


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def record(text: str, level: int = logging.INFO, *args: object) -> logging.LogRecord:
    return logging.LogRecord("web", level, __file__, 1, text, args, None)


class Pipe:
    """A handler that writes into a pipe, and the pipe's other end."""

    def __init__(self, clock: Clock) -> None:
        self.read_end, write_end = os.pipe()
        self.handler = NonBlockingHandler(clock)
        self.handler.setStream(os.fdopen(write_end, "w"))

    def say(self, text: str) -> None:
        self.handler.handle(record(text))

    def read(self) -> list[str]:
        """Return the lines that are in the pipe."""
        return os.read(self.read_end, 1 << 20).decode().splitlines()


@pytest.fixture
def pipe(clock) -> Iterator[Pipe]:
    one = Pipe(clock)
    yield one
    os.close(one.read_end)
    one.handler.stream.close()


def test_lines_arrive_in_order(pipe):
    for number in range(3):
        pipe.say(f"line {number}")
    assert pipe.read() == ["line 0", "line 1", "line 2"]


def test_nobody_reads_and_the_process_goes_on(pipe):
    for number in range(5000):
        pipe.say(f"line {number} {'x' * 200}")
    written = pipe.read()
    assert 0 < len(written) < 5000
    pipe.say("the last one")
    assert pipe.read() == [
        f"{5000 - len(written)} log lines were dropped: nobody read them", "the last one",
    ]  # fmt: skip
    pipe.say("and on")
    assert pipe.read() == ["and on"]


def test_a_traceback_longer_than_the_pipe_holds_up_nobody(pipe):
    pipe.say("x" * 10_000_000)
    assert pipe.read()


def test_a_stream_that_is_no_file_is_written_to(clock):
    handler = NonBlockingHandler(clock)
    handler.setStream(io.StringIO())
    handler.handle(record("line"))
    assert handler.stream.getvalue() == "line\n"


def texts(records: list[logging.LogRecord]) -> list[str]:
    return [one.getMessage() for one in records]


def test_the_same_error_is_told_once_and_counted_when_the_minute_is_over(clock):
    repeats = Repeats(clock)
    told = []
    for _ in range(50):
        told += texts(repeats.take(record("Redis is away: %s", logging.ERROR, "refused")))
        clock.now += 1
    assert told == ["Redis is away: refused"]
    clock.now += 10
    assert texts(repeats.take(record("something else"))) == [
        "Redis is away: refused (49 times more within a minute)", "something else",
    ]  # fmt: skip


def test_an_error_that_goes_on_is_told_every_minute(clock):
    repeats, told = Repeats(clock), []
    for _ in range(130):
        told += texts(repeats.take(record("away", logging.ERROR)))
        clock.now += 1
    assert told == [
        "away", "away (59 times more within a minute)", "away",
        "away (59 times more within a minute)", "away",
    ]  # fmt: skip


def test_other_errors_and_lines_below_errors_always_pass(clock):
    repeats = Repeats(clock)
    taken = [
        *repeats.take(record("a", logging.ERROR)),
        *repeats.take(record("b", logging.ERROR)),
        *repeats.take(record("a", logging.WARNING)),
        *repeats.take(record("a", logging.WARNING)),
    ]
    assert texts(taken) == ["a", "b", "a", "a"]


def test_the_same_task_that_fails_again_and_again_is_the_same_error(clock):
    repeats, told = Repeats(clock), []
    for number in range(3):
        for name in ("metrics.dispatch_due", "clusters.judge_all"):
            line = record(
                f"Task {name}[0000000{number}-0000-0000-0000-000000000000] raised: locked",
                logging.ERROR,
            )
            line.name = "celery.app.trace"
            told += repeats.take(line)
    assert len(told) == 2


def test_many_different_errors_take_no_memory_for_ever(clock):
    repeats = Repeats(clock)
    for number in range(2000):
        assert len(repeats.take(record(f"error {number}", logging.ERROR))) == 1
    assert len(repeats._seen) <= 500
