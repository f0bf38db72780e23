"""What the first start makes: the schema, the keys and a user who can sign in."""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.db import connection

from clusters.tunnel.host_key import ensure_host_key
from metrics.stores import StoreError
from opscenter.core.env import env_secret
from opscenter.core.first_password import ADMIN_NAME, forget_outdated_password, password_path
from opscenter.models import Installation
from opscenter.monitoring.installation import check_metric_store
from opscenter.processes.secret_keys import check_secret_keys

USES_METRIC_STORE = frozenset({"web", "worker"})

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FirstStart:
    """What this start made: the admin's random password; None if no user was created."""

    password: str | None


def check_start(names: Collection[str], *, adopt_empty_store: bool = False) -> None:
    """Check that database, secret key and metric store are of one installation.

    Args:
        names: the processes that are to start; the store is for those that use it.
        adopt_empty_store: whether an empty store beside a database with data is on purpose.

    Raises:
        django.db.DatabaseError: if the database cannot be used.
        ImproperlyConfigured: if they are not, saying in one line what to do.
    """
    if connection.introspection.table_names().count(Installation._meta.db_table) == 0:
        raise ImproperlyConfigured("the database is not prepared: run `manage.py prepare` first")
    check_secret_keys()
    if USES_METRIC_STORE.isdisjoint(names):
        return
    try:
        check_metric_store(adopt_empty=adopt_empty_store)
    except StoreError as exc:
        if settings.METRICS_STORE == "sqlite":
            raise ImproperlyConfigured(f"the metric store: {exc}") from exc
        # A server that is away comes back; until then /readyz says that it is not known.
        logger.warning("whose the metric store is cannot be found out yet: %s", exc)


def prepare(*, adopt_empty_store: bool = False) -> FirstStart:
    """Migrate the database, make the host key, and create the admin if there is no user yet.

    Calling it again changes nothing. The password comes from OPSCENTER_ADMIN_PASSWORD or is
    random; a random one is stored in ``admin_password`` (mode 0600) until it is changed.

    Args:
        adopt_empty_store: as :func:`check_start`.

    Raises:
        django.db.DatabaseError: if the database cannot be used.
        ImproperlyConfigured: if a file in the data directory cannot be used, or as
            :func:`check_start`.
    """
    call_command("migrate", interactive=False, verbosity=0)
    check_start(USES_METRIC_STORE, adopt_empty_store=adopt_empty_store)
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
