"""Celery entry points of pulls and retention: thin, acknowledged early, expiring.

The queue does not run a pull again that was lost with its worker: the next tick does better.
Celery has no time limits for threads; the pulls have their own deadlines.
"""

from __future__ import annotations

import logging
import time
from uuid import UUID

from celery import shared_task
from django.conf import settings
from django.db import close_old_connections

from metrics.deletion import erasure, expiry
from metrics.exports import jobs as exports
from metrics.pulling import backfill, pull, schedule
from metrics.stores import get_store
from opscenter.core import leases

EXPIRE_LEASE_SECONDS = 3600
MAINTAIN_LEASE_SECONDS = 3600

log = logging.getLogger(__name__)


@shared_task(name="metrics.dispatch_due", ignore_result=True)
def dispatch_due() -> int:
    """Queue every due pull and backfill; beat sends this every 5 s."""
    try:
        return schedule.dispatch(time.time(), _send_pull, _send_backfill)
    finally:
        close_old_connections()


@shared_task(name="metrics.pull_cluster", ignore_result=True)
def pull_cluster(cluster_id: str) -> str:
    """Pull one cluster; return the outcome, for the worker's log."""
    try:
        result = pull.pull_cluster(UUID(cluster_id))
    finally:
        close_old_connections()
    return f"{result.outcome} {result.code or result.rows}"


@shared_task(name="metrics.backfill_cluster", ignore_result=True)
def backfill_cluster(cluster_id: str) -> str:
    """Fill gaps of one cluster; return the outcome, for the worker's log."""
    try:
        result = backfill.backfill_cluster(UUID(cluster_id))
    finally:
        close_old_connections()
    return f"filled {result.filled}, lost {result.lost}, open {result.open} {result.error}".strip()


def _send_pull(cluster_id: UUID) -> None:
    pull_cluster.apply_async(
        args=(str(cluster_id),),
        queue="pull",
        priority=0,
        expires=settings.PULL_INTERVAL_SECONDS,
    )


def _send_backfill(cluster_id: UUID) -> None:
    backfill_cluster.apply_async(
        args=(str(cluster_id),),
        queue="backfill",
        priority=6,
        expires=2 * settings.PULL_DEADLINE_SECONDS,
    )


@shared_task(name="metrics.expire", ignore_result=True)
def expire() -> str:
    """Delete what is older than its retention; return what was deleted, for the worker's log."""
    try:
        with leases.hold("expire", EXPIRE_LEASE_SECONDS) as held:
            if not held:
                return "another worker is at it"
            gone = expiry.expire_due(int(time.time()))
            erasure.run_open()
    finally:
        close_old_connections()
    return f"{gone.total} buckets, {gone.series} series, {len(gone.erased)} clusters"


@shared_task(name=erasure.TASK, ignore_result=True)
def erase(erasure_id: str) -> str:
    """Erase a customer; return the progress, for the worker's log."""
    try:
        done = erasure.run(UUID(erasure_id))
    except erasure.ErasureBusyError as exc:
        return str(exc)
    finally:
        close_old_connections()
    return f"{done.state}: {len(done.erased)} of {len(done.clusters)} clusters"


@shared_task(name="metrics.maintain_store", ignore_result=True)
def maintain_store() -> str:
    """Do the metric store's housekeeping; return what was done, for the worker's log."""
    try:
        with leases.hold("maintain", MAINTAIN_LEASE_SECONDS) as held:
            if not held:
                return "another worker is at it"
            done = get_store().maintain(int(time.time()))
    finally:
        close_old_connections()
    log.log(logging.WARNING if "damaged" in done else logging.INFO, "metric store: %s", done)
    return done


@shared_task(name=exports.TASK, ignore_result=True)
def export() -> str:
    """Run the waiting exports, each in its own process; return how many were run."""
    try:
        made = exports.work()
    finally:
        close_old_connections()
    return f"{made} exports"
