"""Short-lived tokens with which workers use the gateway: an HMAC over cluster, service and time.

The key is derived from ``SECRET_KEY``, which hub and workers share.
"""

from __future__ import annotations

from uuid import UUID

from django.core import signing

_SALT = "opscenter.gateway"
LIFE_SECONDS = 300


def issue_token(cluster_id: UUID, service: str) -> str:
    """Return a token for one service of one cluster, valid for five minutes."""
    return signing.TimestampSigner(salt=_SALT).sign(f"{service}.{cluster_id}")


def check_token(token: str, cluster_id: UUID, service: str) -> bool | None:
    """Check a token.

    Returns:
        True if it allows this service of this cluster, False if it is valid for another one,
        None if it is forged or too old.
    """
    try:
        value = signing.TimestampSigner(salt=_SALT).unsign(token, max_age=LIFE_SECONDS)
    except signing.BadSignature:
        return None
    return value == f"{service}.{cluster_id}"
