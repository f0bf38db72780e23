"""Sign-in rules: who makes accounts, and how second factors are kept."""

from __future__ import annotations

import base64

from allauth.account.adapter import DefaultAccountAdapter
from allauth.mfa.adapter import DefaultMFAAdapter
from cryptography.fernet import Fernet
from django.http import HttpRequest
from django.utils.crypto import salted_hmac


class ClosedSignupAdapter(DefaultAccountAdapter):  # type: ignore[misc]
    """Refuse sign-up by visitors; ``manage.py createsuperuser`` and the admin make accounts."""

    def is_open_for_signup(self, request: HttpRequest) -> bool:  # noqa: ARG002
        """Return False: nobody signs up."""
        return False


class EncryptingMFAAdapter(DefaultMFAAdapter):  # type: ignore[misc]
    """Keep TOTP secrets and recovery codes unreadable in the database and its backups.

    The key is derived from ``SECRET_KEY``: with another one the factors must be set up again.
    """

    def encrypt(self, text: str) -> str:
        """Return the text encrypted and signed."""
        return _fernet().encrypt(text.encode()).decode()

    def decrypt(self, encrypted_text: str) -> str:
        """Return the text.

        Raises:
            cryptography.fernet.InvalidToken: if it was made under another key, or changed.
        """
        return _fernet().decrypt(encrypted_text.encode()).decode()


def _fernet() -> Fernet:
    key = salted_hmac("opscenter.second-factor", b"key", algorithm="sha256").digest()
    return Fernet(base64.urlsafe_b64encode(key))
