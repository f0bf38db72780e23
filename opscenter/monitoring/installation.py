"""Whether the metric store is this database's own: at the start, and while it runs.

A store of another installation would be written into; an empty one would be shown as clusters that
measured nothing. Both are refused.
"""

from __future__ import annotations

from uuid import UUID

from django.core.exceptions import ImproperlyConfigured

from clusters.models import AuditEvent, Cluster, ClusterStatus
from metrics.stores import get_store
from metrics.stores.identity import Ownership, StorePlace, ownership
from opscenter.models import Installation

_ADVICE = {
    Ownership.FOREIGN: "restore the store or the database that belong together, or name another"
    " place; what is there is left alone",
    Ownership.EMPTY: "restore its backup or name the place where the data is, or start once with"
    " --adopt-empty-store to begin without it",
    Ownership.REPLACED: "",
}


def check_metric_store(*, adopt_empty: bool = False) -> None:
    """Check that the metric store is this installation's, and write its id where it is missing.

    Args:
        adopt_empty: whether an empty store is taken although clusters have data: it is on purpose.

    Raises:
        ImproperlyConfigured: it is another installation's, or empty; with what to do.
        StoreError: it cannot be read or written.
        django.db.DatabaseError: the database cannot be used.
    """
    installation = str(Installation.current().identity)
    judged = _judged(installation)
    for place, found in judged:
        taken = found is Ownership.EMPTY and adopt_empty
        if found in _ADVICE and not taken:
            raise ImproperlyConfigured(
                f"the metric store {place.name} is {found.value}: {_ADVICE[found]}"
                " (docs/operations.md)"
            )
    if any(found is not Ownership.OURS for _, found in judged):
        get_store().adopt(installation)


def metric_store_problem() -> str:
    """Return why the metric store is not this installation's own; "" if it is.

    It names no place: anybody may read it.

    Raises:
        StoreError: it cannot be read.
        django.db.DatabaseError: the database cannot be used.
    """
    installation = Installation.objects.filter(pk=1).first()
    if installation is None:  # nothing was started with this database yet
        return ""
    judged = _judged(str(installation.identity))
    return "; ".join(sorted({f"is {found.value}" for _, found in judged if found in _ADVICE}))


def _judged(installation: str) -> list[tuple[StorePlace, Ownership]]:
    """Return every place of the store and what it is; one with an id needs no query."""
    with_data = ClusterStatus.objects.exclude(data_as_of=None).values_list("cluster_id", flat=True)
    places = get_store().places(with_data)
    known = _known(
        {cluster for place in places if not place.identity for cluster in place.clusters}
    )
    return [
        (place, ownership(place, installation, known=known, with_data=with_data))
        for place in places
    ]


def _known(clusters: set[UUID]) -> set[UUID]:
    """Return those of some clusters that this database knows, or deleted."""
    if not clusters:
        return set()
    known = set(Cluster.objects.filter(pk__in=clusters).values_list("pk", flat=True))
    logged = AuditEvent.objects.filter(cluster_id__in=clusters).values_list("cluster_id", flat=True)
    return known | {cluster for cluster in logged if cluster is not None}
