"""The processes of Ops Center: how each is started, when it is ready, and its sign of life."""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from redis.exceptions import RedisError

from opscenter.core.heartbeats import (
    heartbeat_queue,
    read_heartbeats,
    redis_client,
    worker_names,
)
from opscenter.processes.child import Command
from opscenter.processes.local_agent import agent_command
from opscenter.processes.preflight import Listener, reachable_host
from opscenter.processes.redis_server import RedisBinary, is_notable, redis_arguments

# Order of start, and what `manage.py up --only` accepts.
NAMES = ("redis", "web", "hub", "worker", "beat", "agent")
_QUEUES = ("heartbeat", "pull", "backfill", "slow")
# Everything else needs Redis to stop in order.
STOPS_LAST = "redis"


def signs_through() -> dict[str, str]:
    """Return which process carries whose sign of life: see ``liveness.py``.

    Any worker writes beat's.
    """
    workers = dict.fromkeys(("worker", *worker_names()), "redis")
    return {**workers, "hub": "redis", "beat": "worker"}


@dataclass(frozen=True)
class Process:
    """One kind of child. ``needs`` are waited for, up to a limit: see the supervisor."""

    name: str
    command: Callable[[], Command | None]  # called at every start; None: not to be started now
    needs: tuple[str, ...] = ()
    is_ready: Callable[[], Awaitable[bool]] | None = None  # None: once it runs
    last_sign: Callable[[], Awaitable[float | None]] | None = None  # Unix s; None: not watched
    is_notable: Callable[[str], bool] | None = None  # which lines are passed on; None: all
    writes_records: bool = True  # whether it logs through opscenter.core.logs

    @property
    def is_worker(self) -> bool:
        """Return whether it is the worker, or one of several."""
        return self.name in worker_names()


def make_processes(names: tuple[str, ...], redis: RedisBinary | None) -> list[Process]:
    """Return the processes of the given names, in the order of start.

    ``redis`` is the server to run; None if REDIS_URL names one that runs elsewhere.
    """
    known = {
        # After web, so that the first page does not wait for their imports.
        name: Process(name, _fixed(_worker(name)), ("redis", "web"), last_sign=_key_sign(name))
        for name in worker_names()
    }
    known |= {
        "web": Process("web", _fixed(_web()), ("redis",), is_web_ready, _probe_sign(is_web_ready)),
        "hub": Process(
            "hub", _fixed(_manage("tunnel_hub")), ("redis",), _is_hub_ready, _key_sign("hub")
        ),
        "beat": Process("beat", _fixed(_beat()), ("redis", "web"), last_sign=_key_sign("beat")),
        "agent": Process("agent", agent_command, ("web", "hub"), writes_records=False),
    }
    if redis is not None:
        command = _fixed(Command(redis_arguments(redis, socket_path())))
        known["redis"] = Process(
            "redis",
            command,
            is_ready=is_redis_ready,
            last_sign=_probe_sign(is_redis_ready),
            is_notable=None if settings.LOG_LEVEL == "DEBUG" else is_notable,
            writes_records=False,
        )
    wanted = [
        each
        for name in NAMES
        if name in names
        for each in (worker_names() if name == "worker" else (name,))
    ]
    return [known[name] for name in wanted if name in known]


def listeners(names: tuple[str, ...]) -> list[Listener]:
    """Return the addresses that the named processes listen on."""
    result = []
    if "web" in names:
        result.append(
            Listener("OPSCENTER_PORT", settings.WEB_HOST, settings.WEB_PORT, "OPSCENTER_HOST")
        )
    if "hub" in names:
        host = settings.HUB_HOST
        result += [
            Listener("OPSCENTER_HUB_PORT", host, settings.HUB_PORT, "OPSCENTER_HUB_HOST"),
            Listener("OPSCENTER_HUB_WS_PORT", host, settings.HUB_WS_PORT, "OPSCENTER_HUB_HOST"),
        ]
    return result


def socket_path() -> Path:
    """Return the unix socket of the private Redis."""
    return Path(settings.RUNTIME_DIR) / "redis.sock"


def _fixed(command: Command) -> Callable[[], Command]:
    return lambda: command


def _manage(*arguments: str) -> Command:
    return Command((sys.executable, str(settings.BASE_DIR / "manage.py"), *arguments))


def _web() -> Command:
    return Command(
        (
            *(sys.executable, "-m", "uvicorn", "opscenter.asgi:application"),
            *("--host", settings.WEB_HOST, "--port", str(settings.WEB_PORT)),
            # Open sockets would delay the stop; our pages open them again by themselves.
            *("--timeout-graceful-shutdown", "2"),
            # This protocol limits connections and sockets; a --limit-concurrency would be one
            # number for all of them, probes of life among them.
            *("--ws-max-size", "65536", "--http", "opscenter.web.http_protocol:BoundedProtocol"),
            *_forwarding(),
            *("--no-access-log", "--no-server-header", "--log-level", "warning"),
        )
    )


def _forwarding() -> tuple[str, ...]:
    """Return whose X-Forwarded-For uvicorn trusts; always given, as its own default is loopback."""
    if not settings.TRUSTED_PROXIES:
        return ("--no-proxy-headers",)
    return ("--proxy-headers", "--forwarded-allow-ips", ",".join(settings.TRUSTED_PROXIES))


def node_name(worker: str) -> str:
    """Return the name by which a worker process of this machine is known to Celery."""
    return f"{worker}@{socket.gethostname()}"


def _worker(name: str) -> Command:
    return Command(
        (
            *(sys.executable, "-m", "celery", "--quiet", "-A", "opscenter", "worker"),
            *("--pool", "threads", "--concurrency", str(settings.WORKER_THREADS)),
            # Drained in this order: signs of life must not wait behind a backlog.
            *("--queues", ",".join(dict.fromkeys((heartbeat_queue(name), *_QUEUES)))),
            *("--hostname", node_name(name)),
            *("--without-gossip", "--without-mingle", "--loglevel", settings.LOG_LEVEL),
        ),
        {
            # The centre's own tasks are JSON: Celery's fear of root is about unpickling.
            "PYTHONWARNINGS": "ignore:You're running the worker with superuser privileges",
            # glibc gives each thread its own heap, which retains the memory of a large answer.
            "MALLOC_ARENA_MAX": "2",
        },
    )


def _beat() -> Command:
    return Command(
        (
            *(sys.executable, "-m", "celery", "--quiet", "-A", "opscenter", "beat"),
            *("--scheduler", "opscenter.beat:Scheduler"),
            *("--schedule", str(settings.DATA_DIR / "beat-schedule"), "--pidfile", ""),
            *("--loglevel", settings.LOG_LEVEL),
        )
    )


async def is_redis_ready() -> bool:
    """Return whether Redis answers a ping."""
    try:
        return bool(await asyncio.to_thread(redis_client().ping))
    except RedisError:
        return False


async def is_web_ready() -> bool:
    """Return whether the web process answers /healthz with 200 within five seconds."""
    try:
        async with asyncio.timeout(5):
            reader, writer = await asyncio.open_connection(
                reachable_host(settings.WEB_HOST), settings.WEB_PORT
            )
            try:
                writer.write(
                    b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
                )
                status_line = await reader.readline()
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False
    return status_line.split(b" ")[1:2] == [b"200"]


async def _is_hub_ready() -> bool:
    """Return whether the hub's SSH port accepts connections."""
    try:
        async with asyncio.timeout(5):
            _, writer = await asyncio.open_connection(
                reachable_host(settings.HUB_HOST), settings.HUB_PORT
            )
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


async def carrier_sign(name: str) -> float | None:
    """Return the last sign of life of a process that others run; None if there is none."""
    return await (_probe_sign(is_redis_ready) if name == "redis" else _key_sign(name))()


def _probe_sign(probe: Callable[[], Awaitable[bool]]) -> Callable[[], Awaitable[float | None]]:
    """Return a sign of life that is now if the probe succeeds."""

    async def sign() -> float | None:
        return time.time() if await probe() else None

    return sign


def _key_sign(name: str) -> Callable[[], Awaitable[float | None]]:
    """Return a sign of life that the process itself leaves in Redis."""

    async def sign() -> float | None:
        try:
            return (await asyncio.to_thread(read_heartbeats, (name,)))[name]
        except RedisError:
            return None

    return sign
