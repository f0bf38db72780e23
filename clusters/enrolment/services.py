"""Writes: issue join tokens, enrol clusters and register their keys. Each writes its audit line.

Callers check the permission (:mod:`clusters.access`) first; :func:`enrol` is the exception: there
the join token is the permission.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.contrib.auth.models import User
from django.db import IntegrityError, transaction

from clusters import audit
from clusters.audit import Actor
from clusters.enrolment.public_keys import parse_public_key
from clusters.models import (
    Cluster,
    ClusterKey,
    JoinToken,
)
from clusters.status_summary import refresh_health
from clusters.tunnel.control import order_on_commit
from opscenter.core import realtime
from opscenter.core.errors import EnrolmentRefusedError, InvalidInputError
from opscenter.core.text import one_line

JOIN_TOKEN_PREFIX = "ocj_"  # noqa: S105 - says what kind of token it is
_USED = "The join token was used already; ask for a new one."
# The same for a key of another cluster and one that was revoked: whose it is or was is nobody's.
_KEY_REFUSED = "This key cannot be used; make a new one."
_CLOCK_SLACK = timedelta(seconds=10)  # a key is stored a moment after its token is taken


@dataclass(frozen=True, slots=True)
class EnrolmentReply:
    """What an agent learns about itself when it enrols."""

    cluster_id: UUID
    cluster_name: str
    services: list[str]


def issue_join_token(cluster: Cluster, *, actor: Actor, now: datetime | None = None) -> str:
    """Return a new single-use token that lets an agent register a key; only its hash is stored.

    It expires after ``settings.JOIN_TOKEN_HOURS``. Older unused tokens of the cluster stop working,
    so that at most one is valid.
    """
    now = now or datetime.now(UTC)
    token = JOIN_TOKEN_PREFIX + secrets.token_urlsafe(32)
    with transaction.atomic():
        JoinToken.objects.filter(cluster=cluster, used_at=None).delete()
        JoinToken.objects.create(
            cluster=cluster,
            digest=_digest(token),
            created_by=_user(actor),
            expires_at=now + timedelta(hours=settings.JOIN_TOKEN_HOURS),
        )
        audit.record("join_token.create", actor=actor, cluster_id=cluster.pk, now=now)
    return token


def accepts_join_token(cluster: Cluster, token: str, *, now: datetime | None = None) -> bool:
    """Return whether :func:`enrol` still accepts a token, at least for the cluster's own key.

    A used one is accepted only while no newer key has replaced the one it registered.
    """
    now = now or datetime.now(UTC)
    join = JoinToken.objects.filter(
        cluster=cluster, digest=_digest(token), expires_at__gt=now
    ).first()
    if join is None or join.used_at is None:
        return join is not None
    newer = cluster.keys.filter(created_at__gt=join.used_at + _CLOCK_SLACK)
    return cluster.status == Cluster.Status.ACTIVE and not newer.exists()


def cluster_of_token(token: str) -> UUID | None:
    """Return the cluster that a join token was made for, whatever its state; None if unknown."""
    return (
        JoinToken.objects.filter(digest=_digest(token)).values_list("cluster_id", flat=True).first()
    )


def enrol(
    *,
    token: str,
    public_key: str,
    agent_version: str,
    kind: str,
    remote_address: str,
    now: datetime | None = None,
) -> EnrolmentReply:
    """Register an agent's key with a join token. All of it happens, or nothing.

    The cluster's older keys are retired: they can no longer sign in. An agent that never got the
    answer may ask again with the same token and key: it is answered until the token expires, and
    only the audit log changes.

    Raises:
        EnrolmentRefusedError: with the reason; the refusal is in the audit log.
    """
    now = now or datetime.now(UTC)
    actor = f"agent {one_line(remote_address, 60)}"
    try:
        with transaction.atomic():
            join = _find_token(token, now)
            cluster = join.cluster
            if join.used_at is not None:
                return _answer_again(join, public_key, actor=actor, now=now)
            _use_token(join, remote_address, now)
            key = _replace_key(cluster, public_key)
            cluster.status = Cluster.Status.ACTIVE
            cluster.enrolled_at = now
            cluster.agent_version = one_line(agent_version, 40)
            cluster.kind = one_line(kind, 20)
            cluster.save(update_fields=["status", "enrolled_at", "agent_version", "kind"])
            detail = {"fingerprint": key.fingerprint, "agent_version": cluster.agent_version}
            audit.record("agent.enrol", actor=actor, cluster_id=cluster.pk, detail=detail, now=now)
    except EnrolmentRefusedError as exc:
        audit.record(
            "agent.enrol",
            actor=actor,
            cluster_id=cluster_of_token(token),
            ok=False,
            detail={"reason": str(exc)},
            now=now,
        )
        raise
    refresh_health(cluster.pk, now)
    realtime.publish_on_commit(cluster.pk, "enrolment")
    return EnrolmentReply(cluster.pk, cluster.name, cluster.allowed_services)


def register_key(
    cluster: Cluster, public_key: str, *, actor: Actor, now: datetime | None = None
) -> ClusterKey:
    """Accept a key that an operator pasted: for a stock OpenSSH client as the agent.

    The cluster's older keys are retired.

    Raises:
        InvalidInputError: if it is no usable key, of another cluster, or revoked.
    """
    now = now or datetime.now(UTC)
    try:
        with transaction.atomic():
            key = _replace_key(cluster, public_key)
            cluster.status = Cluster.Status.ACTIVE
            cluster.enrolled_at = now
            cluster.save(update_fields=["status", "enrolled_at"])
            detail = {"fingerprint": key.fingerprint}
            audit.record("key.register", actor=actor, cluster_id=cluster.pk, detail=detail, now=now)
    except EnrolmentRefusedError as exc:
        raise InvalidInputError(f"public_key: {exc}") from exc
    refresh_health(cluster.pk, now)
    realtime.publish_on_commit(cluster.pk, "enrolment")
    return key


def _find_token(token: str, now: datetime) -> JoinToken:
    """Return a join token that has not expired, used or not, and lock it.

    Raises:
        EnrolmentRefusedError: if it is not known or expired.
    """
    join = (
        JoinToken.objects.select_for_update(of=("self",))
        .select_related("cluster")
        .filter(digest=_digest(token))
        .first()
    )
    if join is None:
        raise EnrolmentRefusedError("The join token is not known. Ask for a new one.")
    if join.expires_at <= now:
        if join.used_at is not None:
            raise EnrolmentRefusedError(_USED)
        raise EnrolmentRefusedError(
            f"The join token expired at {join.expires_at:%Y-%m-%d %H:%M} UTC; ask for a new one."
        )
    return join


def _use_token(join: JoinToken, remote_address: str, now: datetime) -> None:
    """Mark a join token as used, once: the update decides who was first.

    Raises:
        EnrolmentRefusedError: if somebody else was.
    """
    taken = JoinToken.objects.filter(pk=join.pk, used_at=None).update(
        used_at=now, used_from=one_line(remote_address, 60)
    )
    if taken != 1:
        raise EnrolmentRefusedError(_USED)


def _answer_again(join: JoinToken, public_key: str, *, actor: str, now: datetime) -> EnrolmentReply:
    """Return the answer of an earlier enrolment to the holder of its token and key.

    It reveals nothing that the first answer did not, and permits nothing new: the key must be the
    one that the cluster signs in with already.

    Raises:
        EnrolmentRefusedError: for any other key, and once that key was replaced or revoked.
    """
    cluster = join.cluster
    _, fingerprint = parse_public_key(public_key)
    good = cluster.keys.filter(fingerprint=fingerprint, status=ClusterKey.Status.ACTIVE)
    if cluster.status != Cluster.Status.ACTIVE or not good.exists():
        raise EnrolmentRefusedError(_USED)
    detail = {"fingerprint": fingerprint, "repeated": True}
    audit.record("agent.enrol", actor=actor, cluster_id=cluster.pk, detail=detail, now=now)
    return EnrolmentReply(cluster.pk, cluster.name, cluster.allowed_services)


def _replace_key(cluster: Cluster, public_key: str) -> ClusterKey:
    """Make this the cluster's one active key.

    The same key again is accepted for the same cluster: an agent that lost the answer repeats.

    Raises:
        EnrolmentRefusedError: if the key is malformed, revoked, or of another cluster.
    """
    line, fingerprint = parse_public_key(public_key)
    known = ClusterKey.objects.filter(fingerprint=fingerprint).first()
    revoked = known is not None and known.status == ClusterKey.Status.REVOKED
    if revoked or (known is not None and known.cluster_id != cluster.pk):
        raise EnrolmentRefusedError(_KEY_REFUSED)
    cluster.keys.filter(status=ClusterKey.Status.ACTIVE).exclude(fingerprint=fingerprint).update(
        status=ClusterKey.Status.RETIRED
    )
    order_on_commit("recheck", cluster.pk)
    if known is not None:
        known.status = ClusterKey.Status.ACTIVE
        known.save(update_fields=["status"])
        return known
    try:
        with transaction.atomic():
            return ClusterKey.objects.create(
                cluster=cluster, public_key=line, fingerprint=fingerprint
            )
    except IntegrityError as exc:  # another enrolment with the same key came first
        raise EnrolmentRefusedError(_KEY_REFUSED) from exc


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def _user(actor: Actor) -> User | None:
    """Return the actor if it is a stored user."""
    return actor if isinstance(actor, User) else None
