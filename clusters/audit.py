"""The audit log: append-only lines, each holding the hash of the line before.

A line's ``digest`` is SHA-256 over its canonical JSON, which includes ``previous``, so that a
changed, inserted or removed line breaks the chain at that place. What is cut off at the end can
only be seen against a digest kept elsewhere: ``manage.py verify_audit`` prints the newest one.

Lines are written in order by one writer at a time: SQLite's write lock (transactions begin
IMMEDIATE) or a PostgreSQL advisory lock, both held until the surrounding transaction ends. So a
line exists if and only if what it records was committed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.db import connection, transaction

from clusters.models import AuditEvent

Actor = AbstractBaseUser | AnonymousUser | str | None
"""Who did it: a signed-in user, a name such as ``agent 192.0.2.7``, or None for the system."""

_POSTGRES_LOCK = 0x6F70_6361_7564  # any constant; "opcaud"


@dataclass(frozen=True, slots=True)
class Verification:
    """What a check of the chain found."""

    lines: int
    newest_digest: str  # of the last intact line; "" for an empty log
    broken_at: int | None  # id of the first line that does not fit; None if all do
    problem: str  # what is wrong with that line; "" if nothing


def record(
    action: str,
    *,
    actor: Actor,
    cluster_id: UUID | None = None,
    ok: bool = True,
    detail: Mapping[str, Any] | None = None,
    now: datetime | None = None,
) -> AuditEvent:
    """Append one line, within the surrounding transaction if there is one.

    Args:
        action: what was done, ``thing.verb``, at most 50 characters.
        actor: who did it; None for the system.
        cluster_id: the cluster acted on; None if none.
        ok: False if it was refused.
        detail: short facts; never a secret, never a token.
        now: time of the action, aware; the current time if None.
    """
    with transaction.atomic():
        _lock()
        newest = AuditEvent.objects.order_by("-id").values_list("digest", flat=True).first()
        event = AuditEvent(
            at=now or datetime.now(UTC),
            actor=actor_name(actor)[:150],
            action=action,
            cluster_id=cluster_id,
            ok=ok,
            detail=dict(detail or {}),
            previous=newest or "",
        )
        event.digest = digest(event)
        event.save(force_insert=True)
    return event


def actor_name(actor: Actor) -> str:
    """Return the actor's name as the log stores it."""
    if actor is None:
        return "system"
    if isinstance(actor, str):
        return actor
    return actor.get_username() or "anonymous"


def digest(event: AuditEvent) -> str:
    """Return the hash over everything of a line but its id and the hash itself."""
    content = {
        "at": event.at.astimezone(UTC).isoformat(timespec="microseconds"),
        "actor": event.actor,
        "action": event.action,
        "cluster_id": str(event.cluster_id) if event.cluster_id else None,
        "ok": event.ok,
        "detail": event.detail,
        "previous": event.previous,
    }
    return hashlib.sha256(orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).hexdigest()


def verify() -> Verification:
    """Check the whole chain, oldest line first, in constant memory."""
    previous, lines = "", 0
    for event in AuditEvent.objects.order_by("id").iterator(chunk_size=1000):
        if event.previous != previous:
            return Verification(lines, previous, event.pk, "a line before it is missing or changed")
        if event.digest != digest(event):
            return Verification(lines, previous, event.pk, "its content was changed")
        previous, lines = event.digest, lines + 1
    return Verification(lines, previous, None, "")


def _lock() -> None:
    """Let in one writer at a time, until its transaction ends."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_POSTGRES_LOCK])
