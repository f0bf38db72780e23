"""Answers that attack, break off or never end: recorded, refused whole, and nothing is touched."""

from __future__ import annotations

import asyncio
import gzip

import orjson
import pytest
from aiohttp import web

from metrics.pulling.pull import pull_cluster
from tests.factories import ClusterFactory
from tests.metrics.conftest import ledger_of, status_of
from tests.metrics.pulling.answers import app_of, json_answer
from tests.metrics.pulling.spooled import at, pull


def _answer(**changes: object) -> dict[str, object]:
    start = int(at(0))
    table = {
        "series": [{"ns": "", "name": "n1", "node": "", "attrs": {}}],
        "t": [start], "i": [0], "fields": {"cpu_mc": {"n": [1], "s": [5], "l": [5], "h": [5]}},
    }  # fmt: skip
    return {
        "agent": {"version": "1", "kind": "host"}, "now": at(10), "oldest": start,
        "newest_end": start + 600, "start": start, "end": start + 600, "kinds": {"node": table},
    } | changes  # fmt: skip


def _table(**changes: object) -> dict[str, object]:
    table = dict(_answer()["kinds"]["node"])  # type: ignore[index]
    return {"kinds": {"node": table | changes}}


async def _endless(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    while True:
        await response.write(b" " * 65536)


async def _slow(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    while True:
        await response.write(b" ")
        await asyncio.sleep(0.2)


async def _silent(request: web.Request) -> web.StreamResponse:
    await asyncio.sleep(3600)
    raise AssertionError


async def _redirect(request: web.Request) -> web.StreamResponse:
    raise web.HTTPFound("http://127.0.0.1:1/secret")


async def _reset(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def _html(request: web.Request) -> web.StreamResponse:
    return web.Response(text="<script>alert(1)</script>", content_type="text/html")


MILLION = [{"ns": "", "name": f"n{n}"} for n in range(1_000_000)]

HOSTILE = {
    "oversized": (json_answer(b"[" + b"1," * 1_000_000 + b"1]"), "too_large", "cap"),
    "endless": (_endless, "too_large", "cap"),
    "slow": (_slow, "service_down", "no complete answer"),
    "silent": (_silent, "service_down", "no complete answer"),
    "reset": (_reset, "service_down", "connection"),
    "gzip bomb": (
        json_answer(gzip.compress(b" " * 50_000_000, 9), **{"Content-Encoding": "gzip"}),
        "too_large", "cap",
    ),
    "half a gzip": (
        json_answer(gzip.compress(orjson.dumps(_answer()))[:-20], **{"Content-Encoding": "gzip"}),
        "cut_off", "breaks off",
    ),
    "not JSON": (json_answer(b"<html>"), "not_json", "not JSON"),
    "not said to be JSON": (_html, "not_json", "not JSON"),
    "NaN": (json_answer(b'{"now": NaN}'), "not_json", "not JSON"),
    "infinite": (json_answer(b'{"now": 1e999}'), "not_json", "not JSON"),
    "redirect": (_redirect, "redirect", "redirect"),
    "another shape": (json_answer(b"[]"), "bad_value", "not an object"),
    "wrong lengths": (
        json_answer(orjson.dumps(_answer(**_table(i=[0, 0])))),
        "bad_value", "2 entries, but 1 times",
    ),
    "future": (
        json_answer(orjson.dumps(_answer(**_table(t=[int(at(0)) + 86400 * 365])))),
        "bad_value", "in the future",
    ),
    "another window": (
        json_answer(orjson.dumps(_answer(start=int(at(-600))))), "bad_value", "asked for",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_answer_is_recorded_and_touches_nothing(
    case, agent, pullable, stand, store, settings
):
    settings.PULL_DEADLINE_SECONDS = 2
    settings.PULL_MAX_BYTES = 1_000_000
    handler, code, words = HOSTILE[case]
    hostile = ClusterFactory(name="evil-1", current__tunnel_up=True)
    stand.serve(hostile, app_of(handler))
    agent.record(0, 10)
    result = pull_cluster(hostile.pk, at(10))
    generic = "service_down" if code == "service_down" else "bad_response"
    assert (result.outcome, result.code) == ("failed", generic)
    status = status_of(hostile)
    assert (status.pull_error_code, status.pull_failures) == (code, 1)
    assert words in status.pull_error
    assert status.data_as_of is None
    assert hostile.pk not in set(store.clusters()) or not store.last(hostile.pk, "node")
    assert ledger_of(hostile) == []
    assert pull(agent, pullable, 10.1).outcome == "ok"
    assert status_of(pullable).pull_failures == 0


def test_a_million_series_are_refused(pullable, stand, settings):
    settings.PULL_MAX_BYTES = 64_000_000
    body = orjson.dumps(_answer(**_table(series=MILLION)))
    stand.serve(pullable, app_of(json_answer(body)))
    assert pull_cluster(pullable.pk, at(10)).code == "bad_response"
    assert "more than 20000 series" in status_of(pullable).pull_error


def test_hostile_names_are_stored_without_control_characters(pullable, stand, store):
    series = [{"ns": "", "name": 'n1\n\x1b[31m<img src=x onerror="alert(1)">\u202e'}]
    stand.serve(pullable, app_of(json_answer(orjson.dumps(_answer(**_table(series=series))))))
    assert pull_cluster(pullable.pk, at(10)).outcome == "ok"
    [row] = store.last(pullable.pk, "node")
    assert row.key.name == 'n1[31m<img src=x onerror="alert(1)">'
