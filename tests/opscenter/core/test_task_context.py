"""A task's log lines name it, its cluster and the request that started it."""

from __future__ import annotations

import logging
from typing import Any

import orjson
import pytest
import redis
from celery.app.trace import trace_task
from kombu import Connection

from opscenter.celery import app
from opscenter.core.log_context import log_context, stamp

CLUSTER = "5c64388f-8e33-4d56-89fc-1d3a381bae07"


@app.task(name="tests.told")
def told(cluster_id: str = "") -> dict[str, str]:
    """Return the fields of a line that this task logs."""
    record = logging.LogRecord("a", logging.INFO, __file__, 1, "text", (), None)
    stamp(record)
    names = ("request_id", "cluster", "task")
    return {name: vars(record)[name] for name in names if name in vars(record)}


@app.task(name="tests.fails")
def fails() -> None:
    raise ValueError


def run(task: Any, headers: dict[str, Any], *args: str) -> Any:
    """Run a task as a worker does with a message of these headers; return its result."""
    return trace_task(task, "id", args, {}, request={"id": "id", **headers}, app=app)[0]


def sent_headers(address: str) -> dict[str, Any]:
    """Send a task through a real Redis; return the message's headers."""
    with Connection(f"redis+socket{address.removeprefix('unix')}") as connection:
        app.send_task("tests.told", args=(CLUSTER,), queue="test", connection=connection)
    message = redis.Redis.from_url(address).lpop("test")
    assert message is not None
    return dict(orjson.loads(message)["headers"])


def test_the_request_that_sends_a_task_is_on_the_lines_of_the_task(redis_server):
    with log_context(request_id="r-1"):
        headers = sent_headers(redis_server)
    assert run(told, headers, CLUSTER) == {
        "request_id": "r-1", "cluster": CLUSTER, "task": "tests.told",
    }  # fmt: skip


def test_a_task_that_no_request_sent_has_none(redis_server):
    assert run(told, sent_headers(redis_server)) == {"task": "tests.told"}


def test_the_next_task_of_the_thread_has_nothing_of_the_one_before():
    run(told, {"opscenter_request_id": "r-1"}, CLUSTER)
    assert run(told, {}) == {"task": "tests.told"}
    run(fails, {"opscenter_request_id": "r-2"})
    assert run(told, {}) == {"task": "tests.told"}
    assert told.run() == {}


@pytest.mark.parametrize("given", ["a b", "x" * 65, "", 7, None, "a\n"])
def test_an_id_that_could_break_a_line_is_dropped(given):
    assert run(told, {"opscenter_request_id": given}) == {"task": "tests.told"}
