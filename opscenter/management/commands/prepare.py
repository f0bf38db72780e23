"""``manage.py prepare``: what has to exist before the processes start; safe to repeat."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from opscenter.processes.first_start import greeting, prepare


class Command(BaseCommand):
    """Migrate, make the hub's host key, create the admin on an empty database."""

    help = "Migrates the database and makes the keys and the admin; `up` does it by itself."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the option."""
        parser.add_argument(
            "--adopt-empty-store",
            action="store_true",
            help="take an empty metric store although clusters have data: it is on purpose",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Prepare, and say where the admin's password is if one was generated."""
        password = prepare(adopt_empty_store=options["adopt_empty_store"]).password
        if password is not None:
            for line in greeting(password, to_terminal=self.stdout.isatty()):
                self.stdout.write(line)
