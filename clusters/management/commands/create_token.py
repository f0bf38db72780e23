"""``manage.py create_token NAME --user USER``: make an API token."""

from __future__ import annotations

import argparse
from datetime import timedelta
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from clusters import audit
from clusters.models import ApiToken
from opscenter.core.text import one_line


class Command(BaseCommand):
    """Print the token, alone, on stdout. Only its hash is stored, so it cannot be shown again."""

    help = "Make an API token for a user; prints the token alone."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the arguments."""
        parser.add_argument("name", help="what the token is for; shown in lists")
        parser.add_argument("--user", required=True, help="user name; the token sees what it sees")
        parser.add_argument("--read-only", action="store_true", help="the token may only GET")
        parser.add_argument("--expires-days", type=int, help="days until it ends; default: never")

    def handle(self, *args: Any, **options: Any) -> None:
        """Make the token.

        Raises:
            CommandError: for an unknown or inactive user, an empty name or a lifetime below 1.
        """
        user = User.objects.filter(username=options["user"]).first()
        if user is None:
            raise CommandError(f"there is no user {options['user']!r}")
        if not user.is_active:
            raise CommandError(f"the user {user.username} is switched off")
        name = one_line(options["name"], 100)
        if not name:
            raise CommandError("the name is empty")
        days = options["expires_days"]
        if days is not None and days < 1:
            raise CommandError("--expires-days must be at least 1")
        expiry = None if days is None else timedelta(days=days)
        read_only = options["read_only"]
        with transaction.atomic():
            _, token = ApiToken.objects.create(
                user=user, expiry=expiry, name=name, read_only=read_only
            )
            detail = {"name": name, "user": user.username, "read_only": read_only, "days": days}
            audit.record("token.create", actor="manage.py", detail=detail)
        self.stdout.write(str(token))
