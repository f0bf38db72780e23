"""Writes: create, enrol, label, revoke and delete clusters. Each writes its audit line.

Callers have checked the right (:mod:`clusters.access`) before; ``enrol`` is the exception: there
the join token is the right.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from clusters import audit, legal_holds
from clusters.audit import Actor
from clusters.keys import parse_public_key
from clusters.models import (
    CLUSTER_NAME,
    Cluster,
    ClusterKey,
    ClusterStatus,
    Customer,
    JoinToken,
)
from clusters.status_summary import refresh_health
from clusters.tunnel.control import order_on_commit
from clusters.tunnel.wire import SERVICE_PORTS
from opscenter.core import realtime
from opscenter.core.errors import ConflictError, EnrolmentRefusedError, InvalidInputError
from opscenter.core.text import one_line

MAX_LABELS = 32
JOIN_TOKEN_PREFIX = "ocj_"  # noqa: S105 - says what kind of token it is
LABEL_KEY = r"^[A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?$"
# No control characters, line separators, zero-width or bidirectional marks. As a JSON schema says
# it; lone surrogates, which no JSON schema can name, are refused as well.
LABEL_VALUE = r"^[^\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]*$"
_SURROGATE = re.compile("[\ud800-\udfff]")
_LABEL_VALUE_LENGTH = 100
_CUSTOMER_NAME_LENGTH = 100
_USED = "The join token was used already; ask for a new one."
_CLOCK_SLACK = timedelta(seconds=10)  # a key is stored a moment after its token is taken


@dataclass(frozen=True, slots=True)
class EnrolmentReply:
    """What an agent learns about itself when it enrols."""

    cluster_id: UUID
    cluster_name: str
    services: list[str]


def create_cluster(
    *,
    name: str,
    labels: Mapping[str, str] | None = None,
    customer: Customer | None = None,
    actor: Actor,
    simulated: bool = False,
) -> Cluster:
    """Register a cluster that waits for its agent.

    Raises:
        InvalidInputError: if the name or a label is not well-formed.
        ConflictError: if the name is taken.
    """
    try:
        CLUSTER_NAME(name)
    except ValidationError as exc:
        raise InvalidInputError(f"name: {exc.message}") from exc
    clean = validate_labels(labels or {})
    try:
        with transaction.atomic():
            cluster = Cluster.objects.create(
                name=name, labels=clean, customer=customer, simulated=simulated
            )
            current = ClusterStatus(cluster=cluster, reason="waiting for its agent")
            current.since = cluster.created_at
            current.save(force_insert=True)
            audit.record(
                "cluster.create",
                actor=actor,
                cluster_id=cluster.pk,
                detail={"name": name, "customer": str(customer or ""), "labels": clean},
            )
    except IntegrityError as exc:
        raise ConflictError(f"name: a cluster named {name} exists already") from exc
    realtime.publish_on_commit(cluster.pk, "config")
    return cluster


def customer_named(name: str, *, actor: Actor) -> Customer | None:
    """Return the customer of this name, made if there is none yet; None for an empty name.

    Raises:
        InvalidInputError: if the name is too long or holds a control character.
    """
    clean = name.strip()
    if not clean:
        return None
    if len(clean) > _CUSTOMER_NAME_LENGTH or not clean.isprintable():
        msg = f"customer: use one line of at most {_CUSTOMER_NAME_LENGTH} characters"
        raise InvalidInputError(msg)
    with transaction.atomic():
        customer, made = Customer.objects.get_or_create(name=clean)
        if made:
            audit.record("customer.create", actor=actor, detail={"name": clean})
    return customer


def update_cluster(
    cluster: Cluster,
    *,
    name: str | None = None,
    labels: Mapping[str, str] | None = None,
    actor: Actor,
) -> Cluster:
    """Rename or relabel a cluster; None leaves a part as it is.

    Raises:
        InvalidInputError, ConflictError: as :func:`create_cluster`.
    """
    before = {"name": cluster.name, "labels": cluster.labels}
    if name is not None:
        try:
            CLUSTER_NAME(name)
        except ValidationError as exc:
            raise InvalidInputError(f"name: {exc.message}") from exc
        cluster.name = name
    if labels is not None:
        cluster.labels = validate_labels(labels)
    after = {"name": cluster.name, "labels": cluster.labels}
    if after == before:
        return cluster
    try:
        with transaction.atomic():
            cluster.save(update_fields=["name", "labels"])
            detail = {"before": before, "after": after}
            audit.record("cluster.update", actor=actor, cluster_id=cluster.pk, detail=detail)
    except IntegrityError as exc:
        cluster.name = before["name"]
        raise ConflictError(f"name: a cluster named {name} exists already") from exc
    realtime.publish_on_commit(cluster.pk, "config")
    return cluster


def validate_labels(labels: Mapping[str, Any]) -> dict[str, str]:
    """Return labels as they are kept: at most 32, sorted by key.

    A key is 1 to 63 letters, digits, ``.``, ``_``, ``-`` and ``/``, a value one printable line of
    at most 100 characters.

    Raises:
        InvalidInputError: naming the label that does not fit.
    """
    if len(labels) > MAX_LABELS:
        raise InvalidInputError(f"labels: {len(labels)} are too many, at most {MAX_LABELS}")
    for key, value in labels.items():
        if not isinstance(key, str) or not re.fullmatch(LABEL_KEY[1:-1], key):
            shown = one_line(str(key), 70)
            msg = f"labels: the key {shown!r} must be 1 to 63 letters, digits, '.', '_', '-', '/'"
            raise InvalidInputError(msg)
        if not isinstance(value, str):
            raise InvalidInputError(f"labels: the value of {key} must be text")
        if len(value) > _LABEL_VALUE_LENGTH:
            msg = f"labels: the value of {key} is longer than {_LABEL_VALUE_LENGTH} characters"
            raise InvalidInputError(msg)
        if not re.fullmatch(LABEL_VALUE[1:-1], value) or _SURROGATE.search(value):
            raise InvalidInputError(f"labels: the value of {key} holds a control character")
    return {key: labels[key] for key in sorted(labels)}


def issue_join_token(cluster: Cluster, *, actor: Actor, now: datetime | None = None) -> str:
    """Return a new single-use token that lets an agent register a key; it is not kept in clear.

    It expires after ``settings.JOIN_TOKEN_HOURS``. Older unused tokens of the cluster stop to
    work, so that at most one is in the open.
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


def join_token_lives(cluster: Cluster, token: str, *, now: datetime | None = None) -> bool:
    """Return whether :func:`enrol` still answers to a token, at least for the cluster's own key.

    A used one does so only while no newer key has taken the place of the one that it brought.
    """
    now = now or datetime.now(UTC)
    join = JoinToken.objects.filter(
        cluster=cluster, digest=_digest(token), expires_at__gt=now
    ).first()
    if join is None or join.used_at is None:
        return join is not None
    newer = cluster.keys.filter(created_at__gt=join.used_at + _CLOCK_SLACK)
    return cluster.status == Cluster.Status.ACTIVE and not newer.exists()


def enrol(
    *,
    token: str,
    public_key: str,
    agent_version: str,
    kind: str,
    remote_address: str,
    now: datetime | None = None,
) -> EnrolmentReply:
    """Register an agent's key with a join token. Either all of it happens, or nothing.

    The cluster's older keys are retired: they sign in no more. An agent that never got the answer
    asks again with the same token and key: it is answered, as long as the token would have lived,
    and nothing changes but the audit log.

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
        known = JoinToken.objects.filter(digest=_digest(token)).values_list("cluster_id", flat=True)
        audit.record(
            "agent.enrol",
            actor=actor,
            cluster_id=known.first(),
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
        InvalidInputError: if it is no usable key, or registered already.
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


def revoke_cluster(cluster: Cluster, *, actor: Actor, now: datetime | None = None) -> None:
    """Refuse the cluster from now on: its keys and open join tokens stop to work.

    What it sent stays. A new join token lets it enrol again, with a new key.
    """
    now = now or datetime.now(UTC)
    with transaction.atomic():
        cluster.status = Cluster.Status.REVOKED
        cluster.save(update_fields=["status"])
        cluster.keys.exclude(status=ClusterKey.Status.REVOKED).update(
            status=ClusterKey.Status.REVOKED
        )
        JoinToken.objects.filter(cluster=cluster, used_at=None).delete()
        audit.record("cluster.revoke", actor=actor, cluster_id=cluster.pk, now=now)
        order_on_commit("revoke", cluster.pk)
    refresh_health(cluster.pk, now)
    realtime.publish_on_commit(cluster.pk, "config")


def allow_service(cluster: Cluster, service: str, *, actor: Actor) -> bool:
    """Let the hub accept a service from this cluster; return whether it did not before.

    An agent that offered it already dials again and offers it anew, within seconds.

    Raises:
        InvalidInputError: if there is no such service.
    """
    if service not in SERVICE_PORTS:
        msg = f"service: {one_line(service, 60)!r} is none of {', '.join(SERVICE_PORTS)}"
        raise InvalidInputError(msg)
    return _change_services(cluster, add=service, actor=actor)


def refuse_service(cluster: Cluster, service: str, *, actor: Actor) -> bool:
    """Let the hub accept a service no longer; return whether it did before.

    The agent's own service always stays.
    """
    return service != "agent" and _change_services(cluster, remove=service, actor=actor)


def _change_services(cluster: Cluster, *, add: str = "", remove: str = "", actor: Actor) -> bool:
    """Write the changed list and its audit line; return whether anything changed."""
    with transaction.atomic():
        locked = Cluster.objects.select_for_update().get(pk=cluster.pk)
        before = locked.allowed_services
        after = [name for name in before if name != remove]
        after += [add] if add and add not in before else []
        cluster.services = after
        if after == before:
            return False
        locked.services = after
        locked.save(update_fields=["services"])
        audit.record(
            "cluster.services",
            actor=actor,
            cluster_id=cluster.pk,
            detail={"before": before, "after": after},
        )
        order_on_commit("recheck", cluster.pk)
    realtime.publish_on_commit(cluster.pk, "config")
    return True


def delete_cluster(cluster: Cluster, *, actor: Actor) -> None:
    """Delete the cluster with its keys, grants, sessions and status; the audit log stays.

    Its numbers go with the next expiry: the metric store erases clusters that are unknown here.
    The audit line's ``customer_id`` lets a hold that is placed meanwhile still save them.

    Raises:
        LegalHoldError: while a legal hold stands on the cluster or its customer.
    """
    cluster_id = cluster.pk
    detail = {
        "name": cluster.name,
        "customer": str(cluster.customer or ""),
        "customer_id": str(cluster.customer_id or ""),
    }
    with transaction.atomic():
        legal_holds.require_free(cluster)
        audit.record("cluster.delete", actor=actor, cluster_id=cluster_id, detail=detail)
        cluster.delete()
        order_on_commit("revoke", cluster_id)
    realtime.publish_on_commit(cluster_id, "config")


def _find_token(token: str, now: datetime) -> JoinToken:
    """Return a join token that is not past its time, used or not, and lock it.

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
        raise EnrolmentRefusedError("The join token is not known; ask for a new one.")
    if join.expires_at <= now:
        if join.used_at is not None:
            raise EnrolmentRefusedError(_USED)
        raise EnrolmentRefusedError(
            f"The join token expired at {join.expires_at:%Y-%m-%d %H:%M} UTC; ask for a new one."
        )
    return join


def _use_token(join: JoinToken, remote_address: str, now: datetime) -> None:
    """Take a join token, once: the update tells who was first.

    Raises:
        EnrolmentRefusedError: if somebody else was.
    """
    taken = JoinToken.objects.filter(pk=join.pk, used_at=None).update(
        used_at=now, used_from=one_line(remote_address, 60)
    )
    if taken != 1:
        raise EnrolmentRefusedError(_USED)


def _answer_again(join: JoinToken, public_key: str, *, actor: str, now: datetime) -> EnrolmentReply:
    """Return the answer of an enrolment that has happened, to who holds its token and key.

    It tells nothing that the first answer did not, and gives no right: the key must be the one
    that the cluster signs in with already.

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
    if known is not None and known.cluster_id != cluster.pk:
        raise EnrolmentRefusedError("The key is registered already; make a new one.")
    if known is not None and known.status == ClusterKey.Status.REVOKED:
        raise EnrolmentRefusedError("The key was revoked; make a new one.")
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
        raise EnrolmentRefusedError("The key is registered already; make a new one.") from exc


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def _user(actor: Actor) -> User | None:
    """Return the actor if it is a stored user."""
    return actor if isinstance(actor, User) else None
