"""The running agent: collectors fill the spool, the local API serves it, the tunnel reaches that.

Each part runs on its own: without a hub the agent goes on measuring, and the hub's pulls fetch the
data when the tunnel is back.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import signal
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

from aiohttp import web

from agent.api.app import AgentFacts, make_app
from agent.clock import SystemClock, stretch_at
from agent.collectors.base import Collector
from agent.collectors.host import HostCollector
from agent.collectors.kubelet import KubeletCollector
from agent.config import Config, ListenAddress
from agent.enrol import enrol_with_retries, token_digest
from agent.sampler import Sampler
from agent.spool.spool import Spool
from agent.state import SPOOL_FILE, Enrolment, StateError, ensure_key, read_enrolment
from agent.tunnel.client import Tunnel
from agent.tunnel.dial import TunnelOptions
from agent.tunnel.targets import AGENT, Target, TcpTarget, UnixTarget

logger = logging.getLogger(__name__)

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
_SHUTDOWN_SECONDS = 0.5


class ListenError(Exception):
    """The local API cannot listen; the message names the address and the reason."""


def collector_kind(config: Config) -> str:
    """Return ``kubelet`` or ``host``; ``auto`` means kubelet if a service account is mounted."""
    if config.collector != "auto":
        return config.collector
    in_cluster = "KUBERNETES_SERVICE_HOST" in os.environ and SERVICE_ACCOUNT.exists()
    return "kubelet" if in_cluster else "host"


def cluster_kind(config: Config) -> str:
    """Return the kind that the agent reports: ``kubernetes`` or ``host``."""
    return "kubernetes" if collector_kind(config) == "kubelet" else "host"


def make_collector(config: Config) -> Collector:
    """Return the configured collector; nothing is read yet."""
    if collector_kind(config) == "kubelet":
        return KubeletCollector()
    return HostCollector(node_name=config.node_name)


@contextlib.asynccontextmanager
async def local_api(
    config: Config,
) -> AsyncIterator[tuple[Target, Sampler]]:
    """Open the spool and serve it; yield the API's address, and the sampler that fills the spool.

    Raises:
        ListenError: if the address is taken.
        SpoolError: if the spool cannot be used.
    """
    spool = await Spool.open(
        config.data_dir / SPOOL_FILE,
        max_bytes=config.spool_max_mb * 2**20,
        max_days=config.spool_max_days,
    )
    try:
        clock = SystemClock()
        sampler = Sampler(
            make_collector(config),
            spool,
            clock,
            interval_seconds=config.sample_seconds,
        )
        facts = AgentFacts(
            kind=cluster_kind(config),
            hostname=config.node_name or socket.gethostname(),
            instance=config.instance,
            sample_seconds=config.sample_seconds,
            collectors=lambda: {sampler.collector_name: sampler.status},
            services=[AGENT, *config.services.targets],
        )
        runner = web.AppRunner(
            make_app(spool, facts, stretch=lambda: stretch_at(clock, clock.time())),
            access_log=None,
            shutdown_timeout=_SHUTDOWN_SECONDS,
        )
        await runner.setup()
        try:
            yield await _listen(runner, config.listen), sampler
        finally:
            await runner.cleanup()
    finally:
        await spool.close()


async def _listen(runner: web.AppRunner, listen: ListenAddress) -> Target:
    """Start listening; return the address."""
    try:
        if listen.path:
            return await _listen_unix(runner, listen.path)
        await web.TCPSite(runner, listen.host, listen.port).start()
    except OSError as exc:
        where = listen.path or f"{listen.host}:{listen.port}"
        reason = os.strerror(exc.errno) if exc.errno else str(exc)
        raise ListenError(f"OPSCENTER_AGENT_LISTEN: cannot listen on {where}: {reason}") from exc
    return TcpTarget(*runner.addresses[0][:2])


async def _listen_unix(runner: web.AppRunner, path: str) -> Target:
    old_mask = os.umask(0o177)  # the socket is for the agent's own user
    try:
        _remove_stale_socket(Path(path))
        await web.UnixSite(runner, path).start()
    finally:
        os.umask(old_mask)
    return UnixTarget(path)


def _remove_stale_socket(path: Path) -> None:
    """Remove the socket of an agent that was killed: the data directory's lock is ours."""
    if path.is_socket():
        path.unlink()


async def ensure_enrolled(config: Config) -> Enrolment:
    """Return the stored enrolment, or join with the configured token.

    A token that was not used before means that the operator wants the agent to join again.

    Raises:
        EnrolmentError: if the centre refused.
        StateError: if there is neither an enrolment nor a URL and a token.
    """
    stored = read_enrolment(config.data_dir)
    digest = token_digest(config.token)
    if stored is not None and (not config.token or stored.token_digest == digest):
        return stored
    if not config.url or not config.token:
        msg = f"{config.data_dir} holds no enrolment; give a URL and a token as Add cluster shows"
        raise StateError(msg)
    return await enrol_with_retries(config, kind=cluster_kind(config))


async def run(config: Config) -> None:
    """Measure, serve and keep the tunnel until cancelled.

    Raises:
        NoHubError: if no hub could be used for too long.
        EnrolmentError, StateError, ListenError, SpoolError: if the agent cannot start.
    """
    key = ensure_key(config.data_dir)
    async with local_api(config) as (target, sampler):
        await _together(sampler.run(), _connect(config, key, target))


async def _connect(config: Config, key: Any, target: Target) -> None:
    """Join if necessary, then keep the tunnel; samples are taken meanwhile."""
    enrolment = await ensure_enrolled(config)
    options = TunnelOptions(
        transport=config.transport,
        first_connect_seconds=config.first_connect_seconds,
        exit_after_seconds=config.exit_after_seconds,
        ready_path=config.ready_path,
        keepalive_seconds=enrolment.keepalive_seconds,
        instance=config.instance,
        process=secrets.token_hex(8),
    )
    logger.info("this process has the number %s", options.process)
    await Tunnel(enrolment, key, config.services.with_agent(target), options).run()


async def serve(config: Config) -> None:
    """Measure and serve the local API, without a tunnel, until cancelled.

    Raises:
        ListenError, SpoolError: if the agent cannot start.
    """
    async with local_api(config) as (target, sampler):
        logger.info("the local API listens on %s", target)
        await _together(sampler.run())


async def _together(*parts: Coroutine[Any, Any, None]) -> None:
    """Run the parts until one fails, end the others, and raise its error."""
    tasks = [asyncio.ensure_future(part) for part in parts]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def until_signalled(work: Coroutine[Any, Any, None], *, on_stop: Callable[[], None]) -> None:
    """Run ``work`` until it ends or SIGTERM or SIGINT comes; then let it clean up.

    ``on_stop`` is called when the signal comes, before the work is cancelled.
    """
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    stopping = False

    def stop(name: str) -> None:
        nonlocal stopping
        if not stopping:
            logger.info("%s: stopping", name)
            stopping = True
            on_stop()
            task.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number.name)
    try:
        await task
    except asyncio.CancelledError:
        if not stopping:
            raise
