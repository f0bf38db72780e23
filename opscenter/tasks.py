"""The task that proves that the queue works from end to end."""

from __future__ import annotations

from celery import shared_task

from opscenter.core.heartbeats import write_heartbeat


@shared_task(name="opscenter.heartbeat")
def heartbeat(sender: str) -> None:
    """Record that the worker ran a task now, and that ``sender`` had sent it.

    Beat sends ``"beat"``; the supervisor sends ``"up"``, so that a silent beat can be told
    from a silent worker.
    """
    write_heartbeat("worker")
    write_heartbeat(sender)
