"""The erasure of everything of one customer: metrics, ledger, clusters, exports, the customer.

The remaining work is stored in a row (:class:`metrics.models.Erasure`), so it continues after a
``kill -9``; every step may be repeated. The audit log is not erased: its lines, with names of
clusters and people, stay as evidence. Backups are not erased either.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import redis
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction

from clusters import audit, legal_holds, services
from clusters.audit import Actor, actor_name
from clusters.models import AuditEvent, Cluster, Customer
from metrics.deletion.expiry import erase
from metrics.exports import jobs as exports
from metrics.models import ClusterRetention, Erasure, Export
from metrics.series.windows import STREAM
from metrics.stores import StoreError, get_store
from metrics.stores.housekeeping import MetricHousekeeping
from opscenter.core import leases, task_queue
from opscenter.core.errors import ConflictError, InvalidInputError

TASK = "metrics.erase"
_HOLD_ACTIVE = "a legal hold is active; lift it first"

log = logging.getLogger(__name__)

Report = Callable[[Erasure], None]


class ErasureBusyError(ConflictError):
    """Another process is running this erasure."""


def begin(
    customer: Customer, *, confirm: str, actor: Actor, now: datetime | None = None
) -> Erasure:
    """Record that a customer is to be erased; a worker does it, or :func:`run`.

    Args:
        customer: the customer.
        confirm: the customer's name, typed by a person.
        actor: the user who requests it.
        now: current time; None reads the clock.

    Raises:
        InvalidInputError: ``confirm`` is not the customer's name.
        LegalHoldError: the customer or one of its clusters has a hold.
        ConflictError: it is already being erased.
    """
    if confirm != customer.name:
        raise InvalidInputError("confirm: the name does not match; nothing was erased")
    now = now or datetime.now(UTC)
    with transaction.atomic():
        legal_holds.require_free(customer)
        if Erasure.objects.filter(customer_id=customer.pk).exclude(state="done").exists():
            raise ConflictError("confirm: the customer is being erased already")
        erasure = Erasure.objects.create(
            customer_id=customer.pk,
            customer_name=customer.name,
            requested_by=actor_name(actor)[:150],
            requested_at=now,
            clusters=[str(pk) for pk in _clusters_of(customer)],
        )
        detail = {
            "customer": customer.name,
            "customer_id": str(customer.pk),
            "clusters": erasure.clusters,
        }
        audit.record("customer.erase", actor=actor, detail=detail, now=now)
        task_queue.send_on_commit(TASK, argument=erasure.pk)
    return erasure


def run(erasure_id: UUID, *, report: Report = lambda _: None) -> Erasure:
    """Do the rest of an erasure; ``report`` is called after each cluster.

    A hold that was placed meanwhile stops it; it continues once that is lifted.

    Raises:
        ErasureBusyError: another process is running it.
        StoreError: a store refuses; the reason is stored in the row, and a later run continues.
        LeaseTimeoutError: a pull of a cluster did not end; likewise.
    """
    with _alone(erasure_id):
        erasure = Erasure.objects.get(pk=erasure_id)
        if erasure.state == Erasure.State.DONE:
            return erasure
        try:
            while (cluster := _next(erasure)) is not None:
                if legal_holds.is_held(cluster) or _is_held(erasure):
                    return _stop(erasure, Erasure.State.HELD, _HOLD_ACTIVE)
                _erase_cluster(erasure, cluster)
                report(erasure)
            if _is_held(erasure):
                return _stop(erasure, Erasure.State.HELD, _HOLD_ACTIVE)
            return _finish(erasure)
        except legal_holds.LegalHoldError as exc:  # placed between the check and the deletion
            return _stop(erasure, Erasure.State.HELD, str(exc))
        except (StoreError, leases.LeaseTimeoutError) as exc:
            _stop(erasure, Erasure.State.RUNNING, str(exc))
            raise


def run_open() -> int:
    """Continue every erasure that is not finished; return how many finished now."""
    done = 0
    for pk in Erasure.objects.exclude(state=Erasure.State.DONE).values_list("pk", flat=True):
        try:
            done += run(pk).state == Erasure.State.DONE
        except (ErasureBusyError, StoreError, leases.LeaseTimeoutError) as exc:
            log.warning("erasure %s: %s", pk, exc)
    return done


def _clusters_of(customer: Customer) -> list[UUID]:
    """Return the customer's clusters, and deleted ones whose data is still stored."""
    own = list(Cluster.objects.filter(customer=customer).order_by("name"))
    lines = AuditEvent.objects.filter(action="cluster.delete", ok=True)
    deleted = {
        pk
        for pk, detail in lines.values_list("cluster_id", "detail")
        if pk is not None and detail.get("customer_id") == str(customer.pk)
    }
    stored = {pk for store in _stores() for pk in store.clusters()}
    return [*(cluster.pk for cluster in own), *sorted(deleted & stored)]


def _stores() -> Iterator[MetricHousekeeping]:
    """Yield the store in use, and the other one if it is configured: it may still have data."""
    yield get_store()
    if settings.METRICS_STORE == "sqlite":
        try:
            yield get_store("influxdb")
        except ImproperlyConfigured:
            return  # there is none
    elif Path(settings.METRICS_SQLITE_PATH).exists():
        yield get_store("sqlite")


def _next(erasure: Erasure) -> UUID | None:
    """Return a cluster that is left to erase, also one added meanwhile; None if there is none."""
    late = Cluster.objects.filter(customer_id=erasure.customer_id).values_list("pk", flat=True)
    for pk in late:
        if str(pk) not in erasure.clusters:
            erasure.clusters = [*erasure.clusters, str(pk)]
    left = [pk for pk in erasure.clusters if pk not in erasure.erased]
    return UUID(left[0]) if left else None


def _erase_cluster(erasure: Erasure, pk: UUID) -> None:
    cluster = Cluster.objects.filter(pk=pk).first()
    name = "" if cluster is None else cluster.name
    if cluster is not None:
        # From here on no new pull starts; running ones are awaited.
        services.delete_cluster(cluster, actor=erasure.requested_by)
    with ExitStack() as stack:
        _wait_for_pulls(stack, pk)
        for store in _stores():
            erase(store, pk, name=name)  # also what a killed run has only begun to erase
    exports.forget(pk)
    ClusterRetention.objects.filter(pk=pk).delete()
    erasure.erased = [*erasure.erased, str(pk)]
    erasure.state, erasure.problem = Erasure.State.RUNNING, ""
    erasure.save(update_fields=["clusters", "erased", "state", "problem"])


def _wait_for_pulls(stack: ExitStack, pk: UUID) -> None:
    """Wait until no worker pulls a deleted cluster, so that none writes afterwards.

    Without Redis no worker runs: ``manage.py erase_customer`` works on a stopped centre.
    """
    seconds = 2 * settings.PULL_DEADLINE_SECONDS + 60
    try:
        for kind in ("pull", "backfill"):
            name = f"{kind}:{pk}:{STREAM}"
            stack.enter_context(leases.wait_for(name, 3600, timeout_seconds=seconds))
    except redis.ConnectionError as exc:
        log.warning("Redis is down (%s): no worker can be pulling", exc)


def _finish(erasure: Erasure) -> Erasure:
    """Delete the customer itself, with its grants, class and exports."""
    now = datetime.now(UTC)
    with transaction.atomic():
        Export.objects.filter(customer_id=erasure.customer_id).delete()
        Customer.objects.filter(pk=erasure.customer_id).delete()
        erasure.state, erasure.problem = Erasure.State.DONE, ""
        erasure.finished_at = now
        erasure.save()
        detail = {
            "customer": erasure.customer_name,
            "customer_id": str(erasure.customer_id),
            "clusters": len(erasure.erased),
            "requested_by": erasure.requested_by,
        }
        audit.record("customer.erased", actor="system", detail=detail, now=now)
    exports.sweep(now)  # files whose exports were deleted with the customer and its clusters
    return erasure


def _is_held(erasure: Erasure) -> bool:
    customer = Customer.objects.filter(pk=erasure.customer_id).first()
    return customer is not None and bool(legal_holds.standing_on(customer))


def _stop(erasure: Erasure, state: Erasure.State, problem: str) -> Erasure:
    erasure.state, erasure.problem = state, problem[:500]
    erasure.save(update_fields=["clusters", "state", "problem"])
    return erasure


def _alone(erasure_id: UUID) -> ExitStack:
    """Return a context in which no other process does this erasure.

    Raises:
        ErasureBusyError: another one does.
    """
    stack = ExitStack()
    try:
        held = stack.enter_context(leases.hold(f"erase:{erasure_id}", 600))
    except redis.ConnectionError:
        return stack  # no worker can be running it
    if not held:
        stack.close()
        raise ErasureBusyError("another process is already erasing this customer")
    return stack
