"""Writes: create, label, revoke and delete clusters. Each writes its audit line.

Callers check the permission (:mod:`clusters.access`) first.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from clusters import audit, legal_holds
from clusters.audit import Actor
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
from clusters.tunnel.protocol import SERVICE_PORTS
from opscenter.core import realtime
from opscenter.core.errors import ConflictError, InvalidInputError
from opscenter.core.text import one_line

MAX_LABELS = 32
LABEL_KEY = r"^[A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?$"
# No control characters, line separators, zero-width or bidirectional marks. As a JSON schema says
# it; lone surrogates, which no JSON schema can name, are refused as well.
LABEL_VALUE = r"^[^\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]*$"
_SURROGATE = re.compile("[\ud800-\udfff]")
_LABEL_VALUE_LENGTH = 100
_CUSTOMER_NAME_LENGTH = 100


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
        raise ConflictError(f"name: a cluster named {name} already exists") from exc
    realtime.publish_on_commit(cluster.pk, "config")
    return cluster


def customer_named(name: str, *, actor: Actor) -> Customer | None:
    """Return the customer of this name, created if there is none yet; None for an empty name.

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
        raise ConflictError(f"name: a cluster named {name} already exists") from exc
    realtime.publish_on_commit(cluster.pk, "config")
    return cluster


def validate_labels(labels: Mapping[str, Any]) -> dict[str, str]:
    """Return labels as they are stored: at most 32, sorted by key.

    A key is 1 to 63 letters, digits, ``.``, ``_``, ``-`` and ``/``, a value one printable line of
    at most 100 characters.

    Raises:
        InvalidInputError: naming the invalid label.
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


def revoke_cluster(cluster: Cluster, *, actor: Actor, now: datetime | None = None) -> None:
    """Refuse the cluster from now on: its keys and open join tokens stop working.

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
    """Allow a service for this cluster; return whether it was not allowed before.

    An agent that offered it already dials again and offers it anew, within seconds.

    Raises:
        InvalidInputError: if there is no such service.
    """
    if service not in SERVICE_PORTS:
        msg = f"service: {one_line(service, 60)!r} is none of {', '.join(SERVICE_PORTS)}"
        raise InvalidInputError(msg)
    return _change_services(cluster, add=service, actor=actor)


def refuse_service(cluster: Cluster, service: str, *, actor: Actor) -> bool:
    """Stop allowing a service; return whether it was allowed before.

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

    Its numbers are deleted at the next expiry: the metric store erases clusters that are unknown
    here. The audit line's ``customer_id`` lets a hold that is placed meanwhile still protect them.

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
