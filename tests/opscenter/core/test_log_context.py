"""A log line says to which request, cluster and task it belongs."""

from __future__ import annotations

import asyncio
import logging

import pytest

from opscenter.core.log_context import bind, current, log_context, stamp, unbind


def stamped(**extra: str) -> dict[str, str]:
    record = logging.LogRecord("a", logging.INFO, __file__, 1, "text", (), None)
    vars(record).update(extra)
    stamp(record)
    return {name: vars(record)[name] for name in ("request_id", "cluster") if name in vars(record)}


def test_a_line_has_the_fields_of_its_block_only():
    with log_context(request_id="r1"):
        with log_context(cluster="c1"):
            assert stamped() == {"request_id": "r1", "cluster": "c1"}
        assert stamped() == {"request_id": "r1"}
    assert stamped() == {}


def test_what_the_line_itself_names_wins():
    with log_context(cluster="c1"):
        assert stamped(cluster="c2") == {"cluster": "c2"}


async def test_requests_at_the_same_time_do_not_mix():
    async def serve(number: int) -> str:
        bind(request_id=f"r{number}")
        await asyncio.sleep(0)
        return await asyncio.to_thread(current, "request_id")

    tasks = [asyncio.create_task(serve(number)) for number in range(10)]
    assert await asyncio.gather(*tasks) == [f"r{number}" for number in range(10)]
    assert current("request_id") == ""


def test_what_is_bound_can_be_undone():
    unbind(bind(task="t"))
    assert current("task") == ""


def test_a_field_that_the_log_does_not_know_is_refused():
    with pytest.raises(ValueError, match="password"):
        bind(password="x")
