"""``manage.py prepare``: what has to exist before the processes start; safe to repeat."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from opscenter.processes.first_start import greeting, prepare


class Command(BaseCommand):
    """Migrate, make the hub's host key, create the admin on an empty database."""

    help = "Migrates the database and makes the keys and the admin; `up` does it by itself."

    def handle(self, *args: Any, **options: Any) -> None:
        """Prepare, and say where the admin's password is if one was generated."""
        password = prepare().password
        if password is not None:
            for line in greeting(password, to_terminal=self.stdout.isatty()):
                self.stdout.write(line)
