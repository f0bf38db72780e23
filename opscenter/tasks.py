"""The task that proves that the queue works from end to end."""

from __future__ import annotations

from celery import shared_task

from opscenter.core.heartbeats import write_heartbeat


@shared_task(name="opscenter.heartbeat")
def heartbeat(sender: str, worker: str = "worker") -> None:
    """Record that a worker ran a task now, and that ``sender`` sent it.

    Beat sends ``"beat"`` to any worker; the supervisor sends ``"up"`` to each of its own, so that
    a silent beat can be told from a silent worker, and one worker from another.
    """
    for name in {"worker", worker, sender}:
        write_heartbeat(name)
