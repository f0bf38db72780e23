"""``manage.py probe NAME``: one process's health; containers ask ``opscenter/probe.py`` itself."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from opscenter.core.heartbeats import worker_names
from opscenter.probe import NAMES, Target, problem_of


class Command(BaseCommand):
    """Exit with 0 if the process works, with 1 and a line that says why if it does not."""

    help = "Says whether a process works: web by /healthz, the others by their sign of life."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the argument."""
        parser.add_argument("name", choices=NAMES)

    def handle(self, *args: Any, **options: Any) -> None:
        """Check the process, and print what is wrong."""
        target = Target(
            host=settings.WEB_HOST,
            port=settings.WEB_PORT,
            redis_url=settings.REDIS_URL,
            limit_seconds=settings.HEARTBEAT_LIMIT_SECONDS,
            workers=worker_names(),
        )
        problem = problem_of(options["name"], target)
        if problem:
            print(f"{options['name']}: {problem}", file=sys.stderr)
            sys.exit(1)
