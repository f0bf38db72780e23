"""Secrets at rest: encrypted texts that only this Ops Center can open.

A sealed text names the key that sealed it, so that after a change of ``SECRET_KEY`` the old one,
kept in ``SECRET_KEY_FALLBACKS``, still opens it. New texts are sealed with the newest key.
"""

from __future__ import annotations

import base64
import hashlib
import re

from cryptography.fernet import Fernet, InvalidToken
from django.conf import settings
from django.utils.crypto import salted_hmac

from opscenter.core.errors import OpsCenterError

_SALT = "opscenter.sealed-secret"
_VERSION = "1"
_SEALED = re.compile(r"1:[0-9a-f]{12}:gAAAA")


class SealBrokenError(OpsCenterError):
    """A secret was sealed under a key that is no longer known, or was changed."""

    code = "secret_lost"
    http_status = 503


def seal(text: str) -> str:
    """Return the text encrypted and signed; "" for ""."""
    if not text:
        return ""
    key = key_ring(_SALT)[0]
    return f"{_VERSION}:{_name(key)}:{Fernet(key).encrypt(text.encode()).decode()}"


def unseal(sealed: str) -> str:
    """Return a sealed text; "" for "".

    Raises:
        SealBrokenError: if no known key opens it.
    """
    if not sealed:
        return ""
    _, _, rest = sealed.partition(":")
    name, _, token = rest.partition(":")
    for key in key_ring(_SALT):
        if _name(key) != name:
            continue
        try:
            return Fernet(key).decrypt(token.encode()).decode()
        except InvalidToken as exc:
            raise SealBrokenError("a stored secret was changed; enter it again") from exc
    msg = (
        "a stored secret was sealed under another OPSCENTER_SECRET_KEY; put the former key into"
        " OPSCENTER_SECRET_KEY_FALLBACKS, or, if it is lost, enter the secret again"
    )
    raise SealBrokenError(msg)


def is_sealed(text: str) -> bool:
    """Return whether a text was sealed here, under whatever key."""
    return bool(_SEALED.match(text))


def reseal(sealed: str) -> str:
    """Return a sealed text sealed with the newest key; the same text if it is already.

    Raises:
        SealBrokenError: as :func:`unseal`.
    """
    text = unseal(sealed)
    return sealed if not sealed or sealed.split(":")[1] == key_name() else seal(text)


def key_name(secret: str | None = None) -> str:
    """Return the name of the key of a secret (None: the newest), as sealed texts have it.

    It tells one key from another, and is no help in finding a key that is not easily guessed.
    """
    return _name(_key(_SALT, settings.SECRET_KEY if secret is None else secret))


def key_ring(salt: str) -> list[bytes]:
    """Return Fernet keys for one purpose: that of ``SECRET_KEY``, then those of its fallbacks.

    Args:
        salt: name of the purpose; the keys of two purposes have nothing in common.
    """
    return [_key(salt, secret) for secret in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)]


def _key(salt: str, secret: str | bytes) -> bytes:
    derived = salted_hmac(salt, b"key", secret=secret, algorithm="sha256").digest()
    return base64.urlsafe_b64encode(derived)


def _name(key: bytes) -> str:
    """Return the name of a key in sealed texts; it reveals nothing about the key."""
    return hashlib.sha256(b"name:" + key).hexdigest()[:12]
