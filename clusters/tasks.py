"""Celery entry points of the clusters app."""

from __future__ import annotations

from celery import shared_task

from clusters import status_summary


@shared_task(name="clusters.judge_all", ignore_result=True)
def judge_all() -> int:
    """Record health changes that time alone causes; beat sends this every 15 s."""
    return status_summary.judge_all()
