"""The sockets of live pages: ``/ws/fleet/`` and ``/ws/clusters/<uuid>/``.

A socket sends only which cluster changed and which part; the page fetches what it shows through the
same checks as any request. The server chooses the groups. Who may listen is checked when the
socket opens, every :data:`RECHECK_SECONDS`, and at once on a message to the user's group
(:func:`opscenter.core.realtime.publish_user`): after a sign-out, a deactivation or the loss of the
grant, the socket closes.

Besides, the web process itself looks at the clusters of its open pages
(:mod:`opscenter.web.open_pages`): the state changes by time alone. Each beat says as of when that
was, and which parts of Ops Center are not proven to work (``missing_parts``, and ``problem``, a
sentence).

A handshake without a valid session is refused before the upgrade, with 403; so is one that nobody
can check, with 503. A browser shows its page neither, so the page asks by HTTP which it was.

Close codes: 4401 not signed in any more, 4404 the cluster is not visible (any more), 4408 the
browser reads too slowly, 4429 the user holds too many sockets, 1009 it sent more than a socket of
ours needs, 1011 Redis or the database is away.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from importlib import import_module
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import ParseResult
from uuid import UUID

import orjson
from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.security.websocket import OriginValidator
from django.conf import settings
from django.contrib.auth import get_user
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.db import DatabaseError
from redis.exceptions import RedisError

from clusters import access
from opscenter.core.budgets import BudgetError
from opscenter.core.realtime import FLEET_GROUP, cluster_group, user_group
from opscenter.monitoring.readiness import problem_of
from opscenter.web.open_pages import open_pages
from opscenter.web.shares import refuse_handshake, tell_known
from opscenter.web.user_sockets import sockets

logger = logging.getLogger(__name__)

RECHECK_SECONDS = 60
BEAT_SECONDS = 20
COALESCE_SECONDS = 0.3
SEND_SECONDS = 10
MAX_FRAME_BYTES = 1024
MAX_WAITING = 5000

NOT_SIGNED_IN, NOT_VISIBLE, TOO_SLOW, TOO_MANY = 4401, 4404, 4408, 4429
TOO_BIG, BROKEN = 1009, 1011


class LiveConsumer(AsyncWebsocketConsumer):
    """What both sockets share: check, join, coalesce, send, recheck."""

    recheck_seconds: float = RECHECK_SECONDS
    beat_seconds: float = BEAT_SECONDS
    send_seconds: float = SEND_SECONDS
    counted: int | None = None  # the user that the socket counts for
    clusters: frozenset[UUID] | None = frozenset()  # those that the page shows; None: all

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve the socket; count it out when it ends, for any reason."""
        try:
            await super().__call__(scope, receive, send)
        except RedisError as exc:
            logger.warning("a live page gets no updates: %s", exc)
            with contextlib.suppress(Exception):
                await send({"type": "websocket.close", "code": BROKEN})
        finally:
            open_pages().discard(self)
            if self.counted is not None:
                sockets.leave(self, self.counted)

    async def connect(self) -> None:
        """Accept a user's socket, and close it at once with the reason if it may not listen here.

        Without a user the handshake is refused: a stranger gets no socket that would have to be
        closed. Whoever is known gets a close code, which a refusal would not show the browser.
        """
        self.groups_joined: set[str] = set()
        self.waiting: dict[tuple[str, str], None] = {}
        self.has_waiting = asyncio.Event()
        self.has_news = asyncio.Event()
        self.jobs: list[asyncio.Task[None]] = []
        if not _session_key(self.scope):  # costs neither a thread nor a query
            await self.close()
            return
        try:
            user = await database_sync_to_async(session_user)(self.scope)
        except DatabaseError as exc:
            logger.warning("a live page cannot be checked: %s", exc)
            await refuse_handshake(self.base_send, 503)
            return
        if user is None:
            await self.close()
            return
        tell_known(self.scope)
        await self.accept()
        if not await self._check():
            return
        if not self._count():
            await self.close(TOO_MANY)
            return
        open_pages().add(self)
        await open_pages().look_at(self.clusters)
        if open_pages().lost_redis:
            await self.redis_lost()
            return
        self.has_news.clear()  # the hello says it all
        await self._send({"type": "hello", **_beat_now()})
        for job in (self._send_waiting, self._beat, self._recheck):
            self.jobs.append(asyncio.create_task(self._guard(job)))

    async def disconnect(self, code: int) -> None:
        """Leave every group and stop the socket's own tasks."""
        del code
        for job in self.jobs:
            if job is not asyncio.current_task():
                job.cancel()
        for group in self.groups_joined:
            with contextlib.suppress(OSError, RedisError):  # the group forgets us by itself
                await self.channel_layer.group_discard(group, self.channel_name)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Refuse long frames; browsers have nothing to send here, so short ones are ignored."""
        if len(text_data or "") > MAX_FRAME_BYTES or len(bytes_data or b"") > MAX_FRAME_BYTES:
            await self.close(TOO_BIG)

    async def cluster_changed(self, event: dict[str, Any]) -> None:
        """Take a change from the channel layer."""
        if len(self.waiting) >= MAX_WAITING:
            await self.close(TOO_SLOW)
            return
        self.changed(event["cluster"], event["what"])

    def changed(self, cluster: str, what: str) -> None:
        """Note a change, to be sent in a moment; a repeat of a waiting one is dropped."""
        self.waiting[cluster, what] = None
        self.has_waiting.set()

    def wake(self) -> None:
        """Send the next beat now: which parts work has changed."""
        self.has_news.set()

    async def redis_lost(self) -> None:
        """Close, so that the page asks by itself: no message comes without Redis."""
        with contextlib.suppress(TimeoutError, OSError, RuntimeError):  # it left, or does not read
            await asyncio.wait_for(self.close(BROKEN), self.send_seconds)

    async def user_changed(self, event: dict[str, Any]) -> None:
        """Check the user again at once: signed out, deactivated, or grants changed."""
        del event
        await self._check()

    async def wanted_groups(self, user: AbstractBaseUser) -> set[str] | None:
        """Return the groups that the user may listen to; None if the page is not theirs."""
        raise NotImplementedError

    async def _check(self) -> bool:
        """Join the groups that the user may listen to, leave the rest; close if there is none."""
        try:
            user = await database_sync_to_async(session_user)(self.scope)
            wanted = await self.wanted_groups(user) if user is not None else None
        except DatabaseError as exc:
            # Fail closed; the page reconnects by itself.
            logger.warning("a live page cannot be checked: %s", exc)
            await self.close(BROKEN)
            return False
        if user is None:
            await self.close(NOT_SIGNED_IN)
            return False
        if wanted is None:
            await self.close(NOT_VISIBLE)
            return False
        self.user_id = cast("int", user.pk)
        wanted.add(user_group(self.user_id))
        try:
            for group in wanted - self.groups_joined:
                await self.channel_layer.group_add(group, self.channel_name)
            for group in self.groups_joined - wanted:
                await self.channel_layer.group_discard(group, self.channel_name)
        except (OSError, RedisError) as exc:
            logger.warning("a live page gets no updates: %s", exc)
            await self.close(BROKEN)
            return False
        self.groups_joined = wanted
        return True

    def _count(self) -> bool:
        """Count this socket; False if there is no place for it."""
        try:
            sockets.enter(self, self.user_id)
        except BudgetError:
            return False
        self.counted = self.user_id
        return True

    def give_way(self) -> None:
        """Close soon: another user has fewer sockets and needs the place."""
        self.jobs.append(asyncio.create_task(self._give_way()))

    async def _give_way(self) -> None:
        with contextlib.suppress(TimeoutError, OSError, RuntimeError):  # it left, or does not read
            await asyncio.wait_for(self.close(TOO_MANY), self.send_seconds)

    async def _send_waiting(self) -> None:
        while True:
            await self.has_waiting.wait()
            await asyncio.sleep(COALESCE_SECONDS)
            self.has_waiting.clear()
            changes, self.waiting = self.waiting, {}
            for cluster, what in changes:
                await self._send({"type": "changed", "cluster": cluster, "what": what})

    async def _beat(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.has_news.wait(), self.beat_seconds)
            self.has_news.clear()
            await self._send({"type": "beat", **_beat_now()})

    async def _recheck(self) -> None:
        while True:
            await asyncio.sleep(self.recheck_seconds)
            await self._check()

    async def _send(self, message: dict[str, Any]) -> None:
        await asyncio.wait_for(
            self.send(text_data=orjson.dumps(message).decode()), self.send_seconds
        )

    async def _guard(self, job: Callable[[], Awaitable[None]]) -> None:
        """Run one of the socket's tasks; a browser that reads nothing loses the socket."""
        try:
            await job()
        except TimeoutError:
            await self.close(TOO_SLOW)
        except OSError as exc:
            # The browser left while something was being sent; its disconnect comes next.
            logger.debug("a live page left: %s", exc)


class FleetConsumer(LiveConsumer):
    """Every cluster that the user sees: one group for those who see all, else one per cluster."""

    async def wanted_groups(self, user: AbstractBaseUser) -> set[str] | None:
        """Return the fleet's group, or those of the visible clusters (maybe none)."""

        def choose() -> set[str]:
            if access.sees_all(user):
                self.clusters = None
                return {FLEET_GROUP}
            self.clusters = frozenset(access.visible_clusters(user).values_list("pk", flat=True))
            return {cluster_group(pk) for pk in self.clusters}

        return await database_sync_to_async(choose)()


class ClusterConsumer(LiveConsumer):
    """One cluster."""

    async def wanted_groups(self, user: AbstractBaseUser) -> set[str] | None:
        """Return the cluster's group; None if the user does not see it."""
        cluster_id: UUID = self.scope["url_route"]["kwargs"]["cluster_id"]

        def choose() -> set[str] | None:
            visible = access.visible_clusters(user).filter(pk=cluster_id).exists()
            self.clusters = frozenset([cluster_id])
            return {cluster_group(cluster_id)} if visible else None

        return await database_sync_to_async(choose)()


class NoSuchSocket(AsyncWebsocketConsumer):
    """Any other path: refused in the hand-shake, without a traceback in the log."""

    async def connect(self) -> None:
        """Refuse."""
        await self.close()


class StrictOriginValidator(OriginValidator):
    """Channels' validator, where a malformed origin is a refusal and not a crash."""

    def valid_origin(self, parsed_origin: ParseResult | None) -> bool:
        """Return whether a page of this origin may open a socket here."""
        try:
            return bool(super().valid_origin(parsed_origin))
        except ValueError:  # a port that is no number
            return False


def _beat_now() -> dict[str, Any]:
    """Return what a beat says: the time, as of when the states are, and what does not work."""
    missing = open_pages().known_missing()
    return {
        "now": time.time(),
        "as_of": open_pages().looked_at,
        "missing_parts": missing,
        "problem": problem_of(missing),
    }


def session_user(scope: Any) -> AbstractBaseUser | None:
    """Return the active user of the socket's session as it is in the database now.

    The session object of the hand-shake is not used: it would answer from what it loaded then.
    """
    key = _session_key(scope)
    if not key:
        return None
    store = import_module(settings.SESSION_ENGINE).SessionStore
    # The session's own check of the password hash ends sessions at a change of password.
    user = get_user(cast("Any", SimpleNamespace(session=store(key))))
    if isinstance(user, AnonymousUser) or not user.is_active:
        return None
    return user


def _session_key(scope: Any) -> str | None:
    """Return the key in the socket's cookie; None if there is none that could be one."""
    key: str | None = getattr(scope.get("session"), "session_key", None)
    return key
