"""Celery entry points of the clusters app."""

from __future__ import annotations

from datetime import UTC, datetime

from celery import shared_task

from clusters import session_history, status_summary
from clusters.accounts import token_use


@shared_task(name="clusters.judge_all", ignore_result=True)
def judge_all() -> int:
    """Record health changes that time alone causes; beat sends this every 15 s."""
    return status_summary.judge_all()


@shared_task(name="clusters.write_token_uses", ignore_result=True)
def write_token_uses() -> int:
    """Write when API tokens were last used, delete expired ones; beat sends this every minute."""
    return token_use.write_uses(datetime.now(UTC))


@shared_task(name="clusters.trim_sessions", ignore_result=True)
def trim_sessions() -> int:
    """Fold short tunnels and delete the oldest beyond what is kept; beat sends this every hour."""
    return session_history.trim_sessions(datetime.now(UTC))
