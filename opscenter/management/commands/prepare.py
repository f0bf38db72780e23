"""``manage.py prepare``: what has to exist before the processes start; safe to repeat."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from opscenter.processes.first_start import ADMIN_NAME, password_path, prepare


class Command(BaseCommand):
    """Migrate, make the hub's host key, create the admin on an empty database."""

    help = "Migrates the database and makes the keys and the admin; `up` does it by itself."

    def handle(self, *args: Any, **options: Any) -> None:
        """Prepare, and print the admin's password if one was generated."""
        password = prepare().password
        if password is not None:
            self.stdout.write(
                f"sign in as {ADMIN_NAME} with the password {password}"
                f" (shown only now; kept in {password_path()})"
            )
