"""The agent's own HTTP API, the service ``agent`` behind the tunnel: ranges of the spool.

Read-only and small: two paths, GET only, no bodies, few requests at a time. It trusts nobody: an
answer to any request costs a bounded amount of memory and never blocks the event loop.
"""

from __future__ import annotations

import asyncio
import gzip
import ipaddress
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from agent import __version__
from agent.api.range_answer import CollectorNow, range_answer
from agent.catalog import KINDS, Kind
from agent.clock import Stretch
from agent.sampler import CollectorStatus
from agent.samples import clean_name
from agent.spool.spool import Spool

MAX_CONCURRENT = 4
"""Requests answered at a time; more get a 503 with Retry-After."""
MAX_TIME = 2**40
MAX_ERROR = 500
"""Longest error of a collector in an answer, in characters."""
_GZIP_FROM_BYTES = 1024
_HOST = re.compile(r"(?:\[(?P<v6>[0-9a-f:.]+)\]|(?P<name>[a-z0-9._-]+))(?::\d{1,5})?")
_OWN_NAMES = frozenset({"localhost", "agent"})
# What pulls ask for: the service and the cluster's id, which no name server can know.
_SERVICE_NAME = re.compile(r"agent\.[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(slots=True)
class AgentFacts:
    """What the agent says about itself.

    Attributes:
        instance: id that distinguishes two agents with the same identity.
        kind: ``host`` or ``kubernetes``.
        collectors: returns each collector's status; called at every request.
        services: names of the services that the agent's allow-list offers.
    """

    kind: str
    hostname: str
    instance: str = ""
    version: str = __version__
    sample_seconds: int = 15
    collectors: Callable[[], Mapping[str, CollectorStatus]] = dict
    services: Sequence[str] = field(default_factory=lambda: ["agent"])

    def as_json(self) -> dict[str, str]:
        """Return the ``agent`` object of every answer."""
        return {
            "version": self.version,
            "instance": self.instance,
            "kind": self.kind,
            "hostname": self.hostname,
        }

    def collector_json(self) -> dict[str, Any] | None:
        """Return the state of the collector that fills the spool; None without one."""
        for name, status in self.collectors().items():
            error = clean_name(status.error, limit=MAX_ERROR)
            return {
                "name": name, "ok": status.ok, "error": error, "last_at": status.last_at,
                "problems": dict(status.problems),
            }  # fmt: skip
        return None


class _BadRequestError(Exception):
    """The request cannot be answered; the message says what is wrong with it."""


def make_app(
    spool: Spool,
    facts: AgentFacts,
    *,
    now: Callable[[], float] = time.time,
    stretch: Callable[[], Stretch | None] = lambda: None,
) -> web.Application:
    """Return the application that serves ``/v1/range`` and ``/v1/info``.

    Args:
        spool: holds the minutes.
        facts: what the agent says about itself.
        now: returns Unix time in seconds.
        stretch: returns the present stretch of the clock; None if it is not known.
    """
    app = web.Application(middlewares=[_guard(MAX_CONCURRENT)], client_max_size=1)
    api = _Api(spool, facts, now, stretch)
    app.router.add_get("/v1/range", api.get_range, allow_head=False)
    app.router.add_get("/v1/info", api.get_info, allow_head=False)
    return app


class _Api:
    def __init__(
        self,
        spool: Spool,
        facts: AgentFacts,
        now: Callable[[], float],
        stretch: Callable[[], Stretch | None],
    ) -> None:
        self._spool = spool
        self._facts = facts
        self._now = now
        self._stretch = stretch

    async def get_range(self, request: web.Request) -> web.Response:
        """Answer closed minutes, ``start <= t < end``; the answer's ``end`` may be earlier."""
        start, end, kinds = _range_parameters(request)
        now, stretch = self._now(), self._stretch()
        agent, state = self._facts.as_json(), self._facts.collector_json()
        collector = None if state is None else CollectorNow(state, stretch)
        body = await self._spool.call(
            lambda file: range_answer(
                file, start=start, end=end, kinds=kinds, now=now, agent=agent, collector=collector
            )
        )
        return await _json_response(request, body)

    async def get_info(self, request: web.Request) -> web.Response:
        """Answer who the agent is, and its state."""
        if request.query:
            raise _BadRequestError("/v1/info takes no parameters")
        now = self._now()
        state = await self._spool.state(now)
        body = {
            "agent": self._facts.as_json(),
            "now": now,
            "oldest": state.oldest,
            "newest_end": state.newest_end,
            "spool_bytes": state.size_bytes,
            "spool_error": state.error,
            "readings_refused": state.refused,
            "sample_seconds": self._facts.sample_seconds,
            "collectors": {
                name: {"ok": status.ok, "error": status.error, "last_at": status.last_at}
                for name, status in self._facts.collectors().items()
            },
            "services": list(self._facts.services),
        }
        return await _json_response(request, orjson.dumps(body))


def _range_parameters(request: web.Request) -> tuple[int, int, list[Kind]]:
    query = request.query
    for name in query:
        if name not in {"start", "end", "kinds"}:
            msg = f"unknown parameter {name[:64]!r}"
            raise _BadRequestError(msg)
        if len(query.getall(name)) > 1:
            msg = f"{name} is given more than once"
            raise _BadRequestError(msg)
    start, end = _minute_parameter(query, "start"), _minute_parameter(query, "end")
    if start >= end:
        raise _BadRequestError("start must be before end")
    if "kinds" not in query:
        return start, end, list(KINDS)
    names = query["kinds"].split(",")
    kinds = [kind for kind in KINDS if kind in names]
    if len(names) != len(kinds):
        msg = f"kinds must be different ones of {', '.join(KINDS)}"
        raise _BadRequestError(msg)
    return start, end, kinds


def _minute_parameter(query: Mapping[str, str], name: str) -> int:
    text = query.get(name)
    if text is None:
        msg = f"{name} is missing"
        raise _BadRequestError(msg)
    if not (text.isascii() and text.isdigit() and len(text) <= 13):
        msg = f"{name} must be a Unix time in whole seconds"
        raise _BadRequestError(msg)
    value = int(text)
    if value % 60 or value > MAX_TIME:
        msg = f"{name} must be the start of a minute"
        raise _BadRequestError(msg)
    return value


async def _json_response(request: web.Request, body: bytes) -> web.Response:
    headers = {"Cache-Control": "no-store"}
    if len(body) >= _GZIP_FROM_BYTES and _accepts_gzip(request):
        body = await asyncio.to_thread(gzip.compress, body, 5, mtime=0)
        headers["Content-Encoding"] = "gzip"
    return web.Response(body=body, content_type="application/json", headers=headers)


def _accepts_gzip(request: web.Request) -> bool:
    for part in request.headers.get("Accept-Encoding", "").lower().split(","):
        coding, _, quality = part.partition(";")
        if coding.strip() in {"gzip", "*"}:
            return quality.replace(" ", "") not in {"q=0", "q=0.0", "q=0.00", "q=0.000"}
    return False


def _error(status: int, code: str, message: str, **headers: str) -> web.Response:
    body = orjson.dumps({"error": {"code": code, "message": message}})
    return web.Response(status=status, body=body, content_type="application/json", headers=headers)


def _is_for_us(hosts: Sequence[str]) -> bool:
    """Return whether a request's ``Host`` headers name this machine or the tunnel's service.

    A page in a browser on this machine can let a name of its own stand for our loopback address;
    its requests then carry that name.
    """
    found = _HOST.fullmatch(hosts[0].lower()) if len(hosts) == 1 else None
    if found is None:
        return False
    name = found["v6"] or found["name"]
    if name in _OWN_NAMES or _SERVICE_NAME.fullmatch(name):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _guard(limit: int) -> Middleware:
    """Return the middleware that limits requests, refuses bodies and formats errors as JSON."""
    running = 0

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        nonlocal running
        if not _is_for_us(request.headers.getall("Host", [])):
            return _error(421, "other_host", "this API answers to localhost and to its tunnel only")
        if "Origin" in request.headers:
            return _error(403, "origin_refused", "this API answers to no page of a browser")
        if request.body_exists:
            response = _error(413, "body_refused", "this API takes no request body")
            response.force_close()
            return response
        if running >= limit:
            return _error(503, "busy", "too many requests at a time", **{"Retry-After": "1"})
        running += 1
        try:
            return await handler(request)
        except _BadRequestError as exc:
            return _error(400, "bad_request", str(exc))
        except web.HTTPMethodNotAllowed as exc:
            return _error(405, "method_not_allowed", "GET only", Allow=exc.headers["Allow"])
        except web.HTTPNotFound:
            return _error(404, "not_found", "paths: /v1/range, /v1/info")
        finally:
            running -= 1

    return guard
