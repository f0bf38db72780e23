"""One record is one line, even with hostile names."""

from __future__ import annotations

import logging
import sys

import orjson
import pytest
from django.conf import settings

from opscenter.core.logs import JsonFormatter, TextFormatter

HOSTILE = "x\n2026-03-01 12:00:00 INFO audit: all is well\r\x1b[2J\u2028\u202eend"


def record(message: str, *args: object, exc_info=None) -> logging.LogRecord:
    return logging.LogRecord("pull", logging.WARNING, __file__, 1, message, args, exc_info)


@pytest.mark.parametrize("formatter", [TextFormatter("%(name)s: %(message)s"), JsonFormatter()])
def test_a_line_break_in_a_name_makes_no_second_line(formatter):
    line = formatter.format(record("pulled %s", HOSTILE))
    assert "\n" not in line
    assert "\r" not in line
    assert "\x1b" not in line


def test_a_traceback_cannot_pass_for_a_record():
    try:
        raise ValueError(HOSTILE)
    except ValueError:
        text = TextFormatter("%(message)s").format(record("it failed", exc_info=sys.exc_info()))
    first, *rest = text.split("\n")
    assert first == "it failed"
    assert len(rest) > 2
    assert all(line.startswith("    ") for line in rest)
    assert "\x1b" not in text


def test_json_keeps_the_name_as_it_is():
    assert orjson.loads(JsonFormatter().format(record("%s", HOSTILE)))["message"] == HOSTILE


def test_json_has_the_documented_fields(monkeypatch):
    monkeypatch.setenv("OPSCENTER_PROCESS", "hub")
    one = record("pulled")
    one.created, one.cluster, one.request_id = 1_772_366_400.25, "c1", "r1"
    assert orjson.loads(JsonFormatter().format(one)) == {
        "time": "2026-03-01T12:00:00.250Z", "process": "hub", "level": "WARNING", "logger": "pull",
        "message": "pulled", "request_id": "r1", "cluster": "c1",
    }  # fmt: skip


def test_a_supervised_process_marks_its_records(monkeypatch):
    monkeypatch.setenv("OPSCENTER_LOG_MARK", "5ec4e7")
    assert JsonFormatter().format(record("pulled")).startswith("\x1e5ec4e7:{")


def test_text_ends_with_the_request():
    one = record("pulled")
    one.request_id = "r1"
    assert TextFormatter("%(message)s").format(one) == "pulled (request r1)"


def test_arguments_that_do_not_fit_are_no_second_error():
    text = orjson.loads(JsonFormatter().format(record("%d rows", "many")))["message"]
    assert text == "%d rows (its arguments do not fit)"


def test_asyncio_out_of_descriptors_is_one_line(caplog):
    for _ in range(1000):
        logging.getLogger("asyncio").error("socket.accept() out of system resource\nsocket: x")
    assert len(caplog.messages) <= 1


def test_the_centre_logs_through_them():
    used = {name: form["()"] for name, form in settings.LOGGING["formatters"].items()}
    assert used == {
        "text": "opscenter.core.logs.TextFormatter", "json": "opscenter.core.logs.JsonFormatter",
    }  # fmt: skip
