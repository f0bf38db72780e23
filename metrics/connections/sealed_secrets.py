"""The secrets of sources under the newest secret key: what ``manage.py reseal`` does with them."""

from __future__ import annotations

from collections.abc import Iterator

from django.db import transaction

from metrics.models import MetricSource
from opscenter.core.encryption import SealBrokenError, reseal


def reseal_sources() -> Iterator[tuple[str, bool | None]]:
    """Seal the secrets of every source with the newest key, each in a transaction of its own.

    Yields:
        What it is, and whether it was sealed anew; None if no known key opens it.
    """
    rows = MetricSource.objects.exclude(sealed="").order_by("pk")
    for pk in list(rows.values_list("pk", flat=True)):
        outcome = _reseal_row(pk)  # committed before anybody hears of it
        if outcome is not None:
            yield outcome


@transaction.atomic
def _reseal_row(pk: int) -> tuple[str, bool | None] | None:
    """Seal the secrets of one source; None if it was removed meanwhile."""
    found = MetricSource.objects.select_for_update(of=("self",)).select_related("cluster")
    row = found.filter(pk=pk).first()
    if row is None:
        return None
    what = f"secrets of the source {row.kind} of the cluster {row.cluster.name}"
    try:
        sealed = reseal(row.sealed)
    except SealBrokenError:
        return what, None
    if sealed == row.sealed:
        return what, False
    row.sealed = sealed
    row.save(update_fields=["sealed"])
    return what, True
