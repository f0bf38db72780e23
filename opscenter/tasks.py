"""The tasks that prove that Ops Center works: its queue from end to end, and its writes."""

from __future__ import annotations

from typing import Any

from celery import shared_task
from django.db import close_old_connections

from opscenter.core.budgets import flush_refusals
from opscenter.core.heartbeats import redis_client, worker_names, write_heartbeat
from opscenter.monitoring import write_checks


@shared_task(name="opscenter.heartbeat", bind=True)
def heartbeat(self: Any, sender: str, worker: str = "worker") -> None:
    """Record that a worker ran a task now, and that ``sender`` sent it.

    Beat sends ``"beat"`` to any worker; the supervisor sends ``"up"`` to each of its own, so that
    a silent beat can be told from a silent worker, and one worker from another. Who runs beat's
    shows life by it, too: its supervisor may be silent.
    """
    runs_it = str(self.request.hostname or "").partition("@")[0]
    for name in {"worker", worker, sender, *{runs_it}.intersection(worker_names())}:
        write_heartbeat(name)
    flush_refusals(redis_client())


@shared_task(name="opscenter.check_writes", ignore_result=True)
def check_writes(name: str) -> str:
    """Prove that the database or the metric store takes writes; return "ok" or why it does not.

    Beat sends this for each of them, so that a locked one does not hide the other.
    """
    try:
        return write_checks.check_writes(name) or "ok"
    finally:
        close_old_connections()
