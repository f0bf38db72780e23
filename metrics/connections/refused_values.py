"""How many values of a cluster's source were not believed: by reason, when last, in all.

Counted with every live pull and every gap that is filled; a minute that is requested twice counts
twice. Stored as JSON in :attr:`metrics.models.PullSchedule.refused_values`. The reasons are our
own texts of :mod:`metrics.sources.bounds`, so there is a fixed number of them, and nothing that a
source sends is among them.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import transaction

from metrics.models import PullSchedule
from metrics.series.source_answer import SourceAnswer
from metrics.series.windows import STREAM, utc_datetime
from metrics.sources.bounds import REASONS

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RefusedReason:
    """One reason for which values were not believed, how many ever, and when last."""

    text: str
    count: int
    last_at: datetime


@dataclass(frozen=True, slots=True)
class RefusedValues:
    """The values of one cluster that were not believed.

    Attributes:
        total: number of values ever.
        last_at: when the last ones came; None if none did.
        reasons: the reasons, the most recent first and of those the most frequent.
    """

    total: int = 0
    last_at: datetime | None = None
    reasons: tuple[RefusedReason, ...] = ()


def count_refused(cluster: UUID, answer: SourceAnswer, now: float) -> None:
    """Add what an answer was not believed in to the counts of its cluster.

    No query if all values were believed, as nearly always.

    Args:
        cluster: the cluster's id.
        answer: the source's answer.
        now: our clock in Unix seconds.
    """
    refused = {text: n for text, n in answer.refused.items() if text in REASONS and n > 0}
    if not refused:
        return
    logger.info("cluster %s: values were not believed: %s", cluster, refused)
    with transaction.atomic():
        schedule = (
            PullSchedule.objects.select_for_update()
            .filter(cluster_id=cluster, stream=STREAM)
            .only("refused_values")
            .first()
        )
        if schedule is not None:
            schedule.refused_values = counted(schedule.refused_values, refused, now)
            schedule.save(update_fields=["refused_values"])


def counted(stored: Mapping[str, Any], refused: Mapping[str, int], now: float) -> dict[str, Any]:
    """Return the counts to store: reason -> [number, Unix time of the last ones].

    Args:
        stored: the counts so far; {} before the first.
        refused: number of values by reason.
        now: our clock in Unix seconds.
    """
    counts = dict(stored)
    for text, number in refused.items():
        before = counts.get(text, (0, 0))[0]
        counts[text] = [before + number, int(now)]
    return counts


def refused_values(stored: Mapping[str, Any]) -> RefusedValues:
    """Return stored counts for display; reasons of another version are left out."""
    reasons = [
        RefusedReason(text, number, utc_datetime(at))
        for text, (number, at) in stored.items()
        if text in REASONS
    ]
    reasons.sort(key=lambda one: (one.last_at, one.count), reverse=True)
    return RefusedValues(
        total=sum(one.count for one in reasons),
        last_at=reasons[0].last_at if reasons else None,
        reasons=tuple(reasons),
    )
