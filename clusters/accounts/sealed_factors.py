"""Second factors under the newest secret key: what ``manage.py reseal`` does with them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from allauth.mfa.models import Authenticator
from django.db import transaction

from clusters.accounts.adapters import UNNAMED, open_unnamed
from opscenter.core.encryption import SealBrokenError, is_sealed, reseal, seal


def reseal_factors() -> Iterator[tuple[str, bool | None]]:
    """Seal every second factor with the newest key, each in a transaction of its own.

    Yields:
        What it is, and whether it was sealed anew; None if no known key opens it.
    """
    for pk in list(Authenticator.objects.order_by("pk").values_list("pk", flat=True)):
        outcome = _reseal_row(pk)  # committed before anybody hears of it
        if outcome is not None:
            yield outcome


@transaction.atomic
def _reseal_row(pk: int) -> tuple[str, bool | None] | None:
    """Seal one factor; None if it was deleted meanwhile."""
    found = Authenticator.objects.select_for_update(of=("self",)).select_related("user")
    row = found.filter(pk=pk).first()
    if row is None:
        return None
    what = f"second factor of {row.user.get_username()} ({row.get_type_display()})"
    try:
        data = _resealed(row.data)
    except SealBrokenError:
        return what, None
    if data == row.data:
        return what, False
    row.data = data
    row.save(update_fields=["data"])
    return what, True


def _resealed(value: Any) -> Any:
    """Return the data of a factor with every sealed text in it sealed anew."""
    if isinstance(value, dict):
        return {key: _resealed(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_resealed(one) for one in value]
    if not isinstance(value, str):
        return value
    if is_sealed(value):
        return reseal(value)
    return seal(open_unnamed(value)) if value.startswith(UNNAMED) else value
