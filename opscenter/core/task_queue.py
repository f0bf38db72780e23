"""Long work on request: queued at once, and repeated by beat's schedule if that is lost."""

from __future__ import annotations

import logging
from functools import partial
from uuid import UUID

from django.db import transaction
from django.utils.module_loading import import_string
from kombu.exceptions import OperationalError

APPLICATION = "opscenter.celery.app"
"""The Celery application, by name: the web process has not loaded it, and it imports this
module."""

QUEUE = "slow"
PRIORITY = 9

log = logging.getLogger(__name__)


def send_on_commit(task: str, *, argument: UUID | None = None) -> None:
    """Put a task into the queue of long work once the surrounding transaction has committed.

    A queue that is away is logged only: beat sends the same work every few minutes.
    """
    transaction.on_commit(partial(_send, task, argument))


def _send(task: str, argument: UUID | None) -> None:
    args = () if argument is None else (str(argument),)
    try:
        import_string(APPLICATION).send_task(
            task, args=args, queue=QUEUE, priority=PRIORITY, retry=False, ignore_result=True
        )
    except OperationalError as exc:
        log.warning("%s was not put into the queue and is done later: %s", task, exc)
