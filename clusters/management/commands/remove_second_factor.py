"""``manage.py remove_second_factor USER``: for whoever has lost it, or whose key is lost."""

from __future__ import annotations

import argparse
from typing import Any

from allauth.mfa.models import Authenticator
from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from clusters import audit


class Command(BaseCommand):
    """Let a user sign in by the password alone again; a new second factor can be set up then."""

    help = "Removes the second factors of a user, who then signs in by the password alone."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the argument."""
        parser.add_argument("user", help="user name")

    def handle(self, *args: Any, **options: Any) -> None:
        """Remove them, with a line in the audit log.

        Raises:
            CommandError: for an unknown user, or one without a second factor.
        """
        user = User.objects.filter(username=options["user"]).first()
        if user is None:
            raise CommandError(f"there is no user {options['user']!r}")
        with transaction.atomic():
            found = Authenticator.objects.filter(user=user)
            kinds = sorted(found.values_list("type", flat=True))
            if not kinds:
                raise CommandError(f"{user.username} has no second factor")
            found.delete()
            detail = {"user": user.username, "kinds": kinds}
            audit.record("second_factor.remove", actor="manage.py", detail=detail)
        self.stdout.write(f"{user.username} signs in by the password alone now")
