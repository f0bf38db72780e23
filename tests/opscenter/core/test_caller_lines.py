"""Lines that strangers cause with requests are few; what is held back is counted and told."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import pytest
from django.conf import settings
from django.test import Client

from opscenter.core.caller_lines import CallerLines
from opscenter.core.log_context import caller
from opscenter.core.log_limits import RateLimitedLog


class Lines(logging.Handler):
    """Keeps the lines that pass the filter, and what is to be called later."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.later: list[Callable[[], None]] = []
        self.now = 1000.0
        limits = RateLimitedLog(lines=5, clock=lambda: self.now)
        self.addFilter(CallerLines(limits, lambda _, call: self.later.append(call)))

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())

    def pass_minute(self) -> None:
        """Let a minute pass, and do what waits for its end."""
        self.now += 60
        waiting, self.later = self.later, []
        for call in waiting:
            call()


@pytest.fixture
def log() -> Iterator[Lines]:
    lines = Lines()
    loggers = (logging.getLogger(), logging.getLogger("uvicorn"))  # which does not propagate
    for one in loggers:
        one.addHandler(lines)
    yield lines
    for one in loggers:
        one.removeHandler(lines)


def test_pages_that_are_not_there_are_five_lines_a_minute_and_then_a_count(log, db):
    for number in range(100):
        assert Client().get(f"/no-such-page-{number}/").status_code == 404
    assert log.lines == [f"Not Found: /no-such-page-{number}/" for number in range(5)]
    log.pass_minute()
    assert log.lines[5:] == [
        "a request of what is not there (404): 95 times more within a minute, not told one by one"
    ]
    log.pass_minute()
    assert len(log.lines) == 6


def test_sign_ins_that_fail_are_five_lines_a_minute_though_each_has_another_name(log, db):
    for number in range(40):
        form = {"login": f"name-{number}", "password": "wrong"}
        Client().post("/accounts/login/", form)
    assert 0 < sum(line.startswith("AXES") for line in log.lines) <= 10  # and five of lock-outs
    log.pass_minute()
    assert any("a sign-in that failed: " in line for line in log.lines)


def test_one_caller_does_not_use_up_the_lines_of_another(log):
    for address in ("192.0.2.1", "192.0.2.2"):
        token = caller.set(address)
        for _ in range(20):
            logging.getLogger("axes.handlers").warning("AXES: New login failure")
        caller.reset(token)
    assert len(log.lines) == 10


def test_many_callers_are_a_hundred_lines_a_minute(log):
    for number in range(2000):
        token = caller.set(f"192.0.{number % 8}.{number // 8}")
        for _ in range(6):
            logging.getLogger("django.security.csrf").warning("Forbidden (%s)", number)
        caller.reset(token)
    assert len(log.lines) == 100


@pytest.mark.parametrize(
    ("name", "level", "status"),
    [("django.request", logging.ERROR, 500), ("clusters.x", logging.WARNING, 404),
     ("uvicorn.error", logging.ERROR, None)],
)  # fmt: skip
def test_bugs_and_lines_of_our_own_are_never_held_back(log, monkeypatch, name, level, status):
    for attribute, value in (("disabled", False), ("propagate", True), ("level", logging.NOTSET)):
        monkeypatch.setattr(logging.getLogger(name), attribute, value)  # as other tests left it
    for _ in range(50):
        logging.getLogger(name).log(level, "it failed", extra={"status_code": status})
    assert len(log.lines) == 50


def test_every_line_of_the_centre_goes_through_the_limit():
    console = settings.LOGGING["handlers"]["console"]
    assert console["filters"] == ["callers"]
    assert {"console"} == {
        handler
        for one in [settings.LOGGING["root"], *settings.LOGGING["loggers"].values()]
        for handler in one.get("handlers", ())
    }


def test_a_long_address_makes_no_long_line(log, db):
    Client().get(f"/{'x' * 50_000}")
    [line] = log.lines
    assert len(line) < 1_100
    assert line.endswith("... (50012 characters)")
