"""``manage.py probe NAME``: one process's health for a container's health check."""

from __future__ import annotations

import asyncio
import sys
import time
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand
from redis.exceptions import RedisError

from opscenter.core.heartbeats import worker_names
from opscenter.monitoring.readiness import heartbeat_ages
from opscenter.processes.definitions import is_web_ready


class Command(BaseCommand):
    """Exit with 0 if the process works, with 1 and a line that says why if it does not."""

    help = "Says whether a process works: web by /healthz, the others by their sign of life."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the argument."""
        parser.add_argument("name", choices=["web", "worker", "beat", "hub"])

    def handle(self, *args: Any, **options: Any) -> None:
        """Check the process, and print what is wrong."""
        problem = _problem(options["name"])
        if problem:
            print(f"{options['name']}: {problem}", file=sys.stderr)
            sys.exit(1)


def _problem(name: str) -> str:
    """Return what is wrong with a process; "" if nothing."""
    if name == "web":
        return "" if asyncio.run(is_web_ready()) else "/healthz does not answer"
    try:
        ages = heartbeat_ages(time.time())
    except (RedisError, OSError) as exc:
        return f"Redis does not answer: {exc}"
    if name == "worker" and len(worker_names()) > 1:
        problems = ((each, _silence(ages[each])) for each in worker_names())
        return ", ".join(f"{each}: {problem}" for each, problem in problems if problem)
    return _silence(ages[name])


def _silence(age: float | None) -> str:
    if age is None:
        return "no heartbeat yet"
    return f"no heartbeat for {age:.0f} s" if age > settings.HEARTBEAT_LIMIT_SECONDS else ""
