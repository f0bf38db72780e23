"""How often somebody may try to enrol.

Whoever shows a token of ours counts for its cluster, so that no stranger uses up a site's share.
All others count for their address, and all of them together, which bounds what refusals write to
the audit log.
"""

from __future__ import annotations

from uuid import UUID

from django.conf import settings

from opscenter.core.budgets import Rate, peer_group

ENROLMENTS = Rate(
    "enrolments", "attempts to enrol",
    by="cluster", limit=10, seconds=60, processes=settings.WEB_PROCESSES,
)  # fmt: skip
REFUSED = Rate(
    "refused_enrolments", "attempts to enrol with an unknown token",
    by="address", limit=10, seconds=60, processes=settings.WEB_PROCESSES,
)  # fmt: skip
ALL_REFUSED = Rate(
    "all_refused_enrolments", "attempts to enrol with an unknown token",
    by="all", limit=120, seconds=60, processes=settings.WEB_PROCESSES,
)  # fmt: skip


def count_attempt(cluster_id: UUID | None, address: str) -> None:
    """Count an attempt.

    Args:
        cluster_id: the cluster that the shown token belongs to; None if it is unknown.
        address: where it comes from.

    Raises:
        BudgetError: there were too many.
    """
    if cluster_id is not None:
        ENROLMENTS.spend(cluster_id)
        return
    REFUSED.spend(peer_group(address))
    ALL_REFUSED.spend("all")
