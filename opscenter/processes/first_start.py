"""What the first start makes: the schema, the keys and a user who can sign in."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command

from clusters.tunnel.host_key import ensure_host_key
from opscenter.core.env import env_secret
from opscenter.core.first_password import ADMIN_NAME, forget_outdated_password, password_path


@dataclass(frozen=True)
class FirstStart:
    """What this start made: the admin's random password; None if no user was created."""

    password: str | None


def prepare() -> FirstStart:
    """Migrate the database, make the host key, and create the admin if there is no user yet.

    Calling it again changes nothing. The password comes from OPSCENTER_ADMIN_PASSWORD or is
    random; a random one is stored in ``admin_password`` (mode 0600) until it is changed.

    Raises:
        django.db.DatabaseError: if the database cannot be used.
        ImproperlyConfigured: if a file in the data directory cannot be used.
    """
    call_command("migrate", interactive=False, verbosity=0)
    Path(settings.STATIC_ROOT).mkdir(parents=True, exist_ok=True)
    ensure_host_key(settings.HUB_HOST_KEY_PATH)
    password = _ensure_admin()
    if password is None:
        forget_outdated_password()
    return FirstStart(password)


def greeting(password: str, *, to_terminal: bool) -> list[str]:
    """Return the lines that say how to sign in for the first time.

    Args:
        password: the admin's random password.
        to_terminal: whether only a person sees them; what is written elsewhere is kept by
            somebody, such as a service manager, and names the file alone.
    """
    if not to_terminal:
        return [f"sign in as {ADMIN_NAME} with the password in {password_path()}"]
    return [
        f"sign in as {ADMIN_NAME} with the password {password}",
        f"(shown only now; in {password_path()} until it is changed)",
    ]


def _ensure_admin() -> str | None:
    """Create the admin on an empty user table; return the password if it was generated here."""
    users = get_user_model()
    if users.objects.exists():
        return None
    given = env_secret("OPSCENTER_ADMIN_PASSWORD")
    password = given or secrets.token_urlsafe(15)
    if given is None:
        # The file comes first: an admin whose password nobody ever saw would be useless.
        descriptor = os.open(password_path(), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(password + "\n")
    users.objects.create_superuser(ADMIN_NAME, password=password)
    return None if given else password
