"""The random password of the first user: kept in a file until it is changed, and not longer.

Django tells its password validators of every password that is set and saved, by whatever way: the
account page, the admin, ``manage.py changepassword``. That is where the file goes.
"""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path

from django.conf import settings
from django.contrib.auth import get_user_model, password_validation
from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction

ADMIN_NAME = "admin"

logger = logging.getLogger(__name__)


def password_path() -> Path:
    """Return the file that holds the admin's random password until it is changed."""
    return Path(settings.DATA_DIR) / "admin_password"


class MinimumLengthValidator(password_validation.MinimumLengthValidator):
    """Django's rule of length, which also hears of every change."""

    def password_changed(self, password: str, user: AbstractBaseUser | None = None) -> None:
        """Delete the file of the first password once another one of the admin is stored."""
        if user is None or user.get_username() != ADMIN_NAME:
            return
        if _first_password() not in (None, password):
            transaction.on_commit(partial(_forget, password_path()))


def forget_outdated_password() -> None:
    """Delete the file if its password is no longer the admin's; costs one hash while it exists."""
    first = _first_password()
    if first is None:
        return
    admin = get_user_model().objects.filter(username=ADMIN_NAME).first()
    if admin is None or not admin.check_password(first):
        _forget(password_path())


def _first_password() -> str | None:
    """Return what the file holds; None if there is none, or it is not for us to read."""
    try:
        return password_path().read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None


def _forget(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as exc:
        logger.warning("%s holds a password that is no longer used: %s", path, exc.strerror)
