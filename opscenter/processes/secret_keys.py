"""Whether the secret key is the one that this database knows, and sealing everything with it.

The database has the name of each key that something may be sealed with. One of them that is no
longer configured would make secrets unreadable: passwords of sources, second factors. So such a
start is refused until ``manage.py reseal`` has sealed everything with the newest key.
"""

from __future__ import annotations

from collections.abc import Iterator

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction

from clusters.accounts.sealed_factors import reseal_factors
from metrics.connections.sealed_secrets import reseal_sources
from opscenter.core.encryption import key_name
from opscenter.models import Installation


def check_secret_keys() -> None:
    """Check that every key that something may be sealed with is configured; note a new one.

    Raises:
        ImproperlyConfigured: if one is missing, saying what to do.
    """
    with transaction.atomic():
        Installation.current()
        row = Installation.objects.select_for_update().get(pk=1)
        configured = [*map(key_name, reversed(settings.SECRET_KEY_FALLBACKS)), key_name()]
        if not row.keys:  # from before keys were noted: any that is configured may have been used
            row.keys = configured
        elif set(row.keys) - set(configured):
            raise ImproperlyConfigured(
                "OPSCENTER_SECRET_KEY is another key than the one that this database was used with:"
                " set it again, or add the former key to OPSCENTER_SECRET_KEY_FALLBACKS and run"
                " `manage.py reseal`; if it is lost, `manage.py reseal --without-former-key`"
            )
        elif row.keys[-1] != key_name():
            row.keys = [*(name for name in row.keys if name != key_name()), key_name()]
        else:
            return
        row.save(update_fields=["keys"])


def reseal_everything() -> Iterator[tuple[str, bool | None]]:
    """Seal everything that is sealed with the newest key; may be stopped and run again.

    Yields:
        What it is, and whether it was sealed anew; None if no known key opens it.
    """
    yield from reseal_factors()
    yield from reseal_sources()


def forget_former_keys() -> None:
    """Note that nothing is sealed with a former key any more, or that what is may stay lost."""
    Installation.current()
    Installation.objects.filter(pk=1).update(keys=[key_name()])
