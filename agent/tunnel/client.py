"""The tunnel: one SSH connection to a hub, over which the hub may use the allowed services.

``Tunnel.run`` dials (:mod:`agent.tunnel.dial`), waits until the connection is gone and dials again
(:mod:`agent.tunnel.backoff` says when and where).
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from typing import Any

import asyncssh

from agent.state import Enrolment, set_ready
from agent.tunnel.backoff import (
    TCP,
    DialState,
    Endpoint,
    after_failure,
    after_session,
    back_to_tcp,
    endpoint_of,
    first_state,
    retry_delay_seconds,
)
from agent.tunnel.dial import DialError, Session, TunnelOptions, dial
from agent.tunnel.egress import speaks_ssh, split_address
from agent.tunnel.targets import AllowList

logger = logging.getLogger(__name__)


class NoHubError(Exception):
    """No hub could be used for so long that the process should be restarted."""


class _TcpWorksError(Exception):
    """A WebSocket session is ended because TCP would work."""


class Tunnel:
    """Keeps a session with a hub, for as long as it runs."""

    def __init__(
        self,
        enrolment: Enrolment,
        key: asyncssh.SSHKey,
        services: AllowList,
        options: TunnelOptions,
        *,
        uniform: Callable[[float, float], float] = random.uniform,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._enrolment = enrolment
        self._key = key
        self._services = services
        self._options = options
        self._uniform = uniform
        self._monotonic = monotonic
        self.connected_to: Endpoint | None = None
        self.last_error = ""

    async def run(self) -> None:
        """Dial until cancelled.

        Raises:
            NoHubError: if there was no session for ``exit_after_seconds``.
            ValueError: if the transport option allows none of the enrolment's addresses.
        """
        addresses, ws_urls = self._enrolment.addresses, self._enrolment.ws_urls
        state = first_state(addresses, ws_urls, self._options.transport)
        self._mark_ready(None)
        await asyncio.sleep(self._uniform(0.0, self._options.first_connect_seconds))
        last_hub_at = self._monotonic()
        while True:
            endpoint = endpoint_of(state, addresses, ws_urls)
            started_at = self._monotonic()
            try:
                why = await self._hold(endpoint)
            except _TcpWorksError:
                state = back_to_tcp(state)
                last_hub_at = self._monotonic()
                continue
            except DialError as exc:
                why = self.last_error = str(exc)
                state = after_failure(
                    state, addresses, ws_urls, self._options.transport, reached=exc.reached
                )
            else:
                last_hub_at = self._monotonic()
                state = after_session(state, last_hub_at - started_at)
            await self._pause(state, why, self._monotonic() - last_hub_at)

    async def _pause(self, state: DialState, why: str, alone_seconds: float) -> None:
        limit = self._options.exit_after_seconds
        if limit and alone_seconds >= limit:
            raise NoHubError(f"no hub for {alone_seconds:.0f} s; the last failure: {why}")
        delay = retry_delay_seconds(max(0, state.attempt - 1), self._uniform)
        logger.warning("no tunnel: %s; trying again in %.1f s", why, delay)
        await asyncio.sleep(delay)

    async def _hold(self, endpoint: Endpoint) -> str:
        """Hold a session until it ends; return why."""
        async with dial(
            endpoint, self._enrolment, self._key, self._services, self._options
        ) as session:
            self.connected_to, self.last_error = endpoint, ""
            self._mark_ready(endpoint)
            logger.info("tunnel up: %s, services %s", endpoint, ", ".join(session.services))
            try:
                return await self._until_closed(session, endpoint)
            finally:
                self.connected_to = None
                self._mark_ready(None)

    async def _until_closed(self, session: Session, endpoint: Endpoint) -> str:
        """Return why the session ended; on a WebSocket, probe TCP meanwhile.

        A hub that was away for some seconds leaves agents on its WebSocket, which costs both
        ends more; without this they would stay there as long as it runs.

        Raises:
            _TcpWorksError: if TCP would work again.
        """
        closed = asyncio.ensure_future(session.wait_closed())
        waiting: set[asyncio.Future[Any]] = {closed}
        if endpoint.transport != TCP and self._options.transport == "auto":
            waiting.add(asyncio.ensure_future(self._tcp_works()))
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if closed.done():
                return closed.result()
        finally:
            for waited in waiting:
                waited.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
        logger.info("TCP works again: leaving the WebSocket")
        raise _TcpWorksError

    async def _tcp_works(self) -> None:
        """Return once an SSH server answers at one of the hub's TCP addresses."""
        while True:
            longest = self._options.tcp_probe_seconds
            await asyncio.sleep(self._uniform(longest / 2, longest))
            for address in self._enrolment.addresses:
                if await speaks_ssh(*split_address(address), centre=self._enrolment.centre):
                    return

    def _mark_ready(self, endpoint: Endpoint | None) -> None:
        if self._options.ready_path is not None:
            set_ready(self._options.ready_path, None if endpoint is None else f"{endpoint}\n")
