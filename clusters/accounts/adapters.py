"""Sign-in rules: who makes accounts, and how second factors are kept."""

from __future__ import annotations

from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.mfa.adapter import DefaultMFAAdapter
from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.contrib.auth.models import AbstractBaseUser
from django.http import HttpRequest

from clusters.accounts.attempts import PasswordAttempt
from opscenter.core.encryption import SealBrokenError, key_ring, seal, unseal

UNNAMED = "gAAAA"  # how every bare Fernet token begins; a sealed text begins with its version
_UNNAMED_SALT = "opscenter.second-factor"


class ClosedSignupAdapter(DefaultAccountAdapter):  # type: ignore[misc]
    """Refuse sign-up by visitors; ``manage.py createsuperuser`` and the admin make accounts."""

    def is_open_for_signup(self, request: HttpRequest) -> bool:  # noqa: ARG002
        """Return False: nobody signs up."""
        return False

    def authenticate(self, request: HttpRequest, **credentials: Any) -> AbstractBaseUser | None:
        """Return the user whose name and password these are; None if they are wrong.

        Raises:
            BudgetError: too many were wrong, from this address or for this account.
        """
        attempt = PasswordAttempt(request, str(credentials.get("username") or ""))
        attempt.begin()
        user: AbstractBaseUser | None = super().authenticate(request, **credentials)
        if user is not None:
            attempt.succeeded()
        return user


class EncryptingMFAAdapter(DefaultMFAAdapter):  # type: ignore[misc]
    """Keep TOTP secrets and recovery codes unreadable in the database and its backups.

    They are sealed as every secret at rest is, and outlive a change of ``SECRET_KEY`` as long as
    the former one is kept in ``SECRET_KEY_FALLBACKS``.
    """

    def encrypt(self, text: str) -> str:
        """Return the text encrypted and signed."""
        return seal(text)

    def decrypt(self, encrypted_text: str) -> str:
        """Return the text.

        Raises:
            SealBrokenError: if its key is no longer known, or the text was changed.
        """
        if encrypted_text.startswith(UNNAMED):
            return open_unnamed(encrypted_text)
        return unseal(encrypted_text)


def open_unnamed(token: str) -> str:
    """Decrypt a second factor from before they were sealed; it does not name its key.

    Raises:
        SealBrokenError: if its key is no longer known, or the text was changed.
    """
    ring = MultiFernet([Fernet(key) for key in key_ring(_UNNAMED_SALT)])
    try:
        return ring.decrypt(token.encode()).decode()
    except InvalidToken as exc:
        msg = (
            "a second factor was encrypted under another OPSCENTER_SECRET_KEY; put the former key"
            " into OPSCENTER_SECRET_KEY_FALLBACKS, or, if it is lost, set it up again"
        )
        raise SealBrokenError(msg) from exc
