"""The Celery application and its beat schedule.

Beat only says "check what is due": which cluster is pulled when is data
(:class:`metrics.models.PullSchedule`). Every entry expires within its interval, so that a stalled
worker finds no backlog. Task names are explicit and stable; arguments are ids.
"""

from __future__ import annotations

import gc
import os

from celery import Celery
from celery.signals import worker_init
from django.conf import settings

from opscenter.core import task_context

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "opscenter.settings")

app = Celery("opscenter")
app.config_from_object("django.conf:settings", namespace="CELERY")
task_context.connect()
app.autodiscover_tasks(["clusters", "metrics", "opscenter"])
app.conf.beat_schedule = {
    "dispatch due pulls": {
        "task": "metrics.dispatch_due",
        "schedule": 5.0,
        "options": {"expires": 5, "queue": "pull", "priority": 0},
    },
    "delete what is older than its retention": {
        "task": "metrics.expire",
        "schedule": 3600.0,
        "options": {"expires": 3000, "queue": "slow", "priority": 9},
    },
    "seal what is over, and other housekeeping of the metric store": {
        "task": "metrics.maintain_store",
        "schedule": 600.0,
        "options": {"expires": 550, "queue": "slow", "priority": 9},
    },
    "make exports whose task was lost": {
        "task": "metrics.export",
        "schedule": 60.0,
        "options": {"expires": 55, "queue": "slow", "priority": 9},
    },
    "record health changes by time alone": {
        "task": "clusters.judge_all",
        "schedule": 15.0,
        "options": {"expires": 14, "queue": "pull", "priority": 0},
    },
    "prove that the database takes writes": {
        "task": "opscenter.check_writes",
        "args": ["database"],
        "schedule": float(settings.HEARTBEAT_SECONDS),
        "options": {"expires": 2 * settings.HEARTBEAT_SECONDS, "queue": "heartbeat"},
    },
    "prove that the metric store takes writes": {
        "task": "opscenter.check_writes",
        "args": ["metric store"],
        "schedule": float(settings.HEARTBEAT_SECONDS),
        "options": {"expires": 2 * settings.HEARTBEAT_SECONDS, "queue": "heartbeat"},
    },
    "record when API tokens were last used": {
        "task": "clusters.write_token_uses",
        "schedule": 60.0,
        "options": {"expires": 55, "queue": "slow", "priority": 9},
    },
    "fold and delete ended tunnels": {
        "task": "clusters.trim_sessions",
        "schedule": 3600.0,
        "options": {"expires": 3500, "queue": "slow", "priority": 9},
    },
    "heartbeat": {
        "task": "opscenter.heartbeat",
        "args": ["beat"],
        "schedule": float(settings.HEARTBEAT_SECONDS),
        "options": {"expires": 2 * settings.HEARTBEAT_SECONDS, "queue": "heartbeat"},
    },
}


@worker_init.connect
def collect_rarely(**_: object) -> None:
    """Let the garbage collector run less often in the worker.

    An answer becomes hundreds of thousands of tuples that all live until they are stored and form
    no cycles. With Python's own threshold of 700 new objects, half of the time to read an answer is
    spent looking for cycles.
    """
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)
