"""What the tests of retention share: hours of data at given ages, and what is left of them."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from metrics.series.catalog import KINDS
from metrics.series.windows import DAY
from metrics.stores import get_store
from metrics.stores.writer import Batch
from tests.metrics.stores.contract import NODE, POD, T0, row

__all__ = ["NODE", "NOW", "POD", "T0", "days", "kept", "store_hours"]

NOW = T0 + 1800
"""Half past: bounds are rounded down to midnight."""


def days(minutes: int, tens: int, hours: int) -> dict[Any, dict[str, int]]:
    """Return the same limits for every kind; the history as long as a new class keeps it."""
    limits = {kind: {"1m": minutes, "10m": tens, "1h": hours} for kind in KINDS}
    return {**limits, "history": {"days": max(730, hours)}}


def store_hours(cluster_id: UUID, *ages: int) -> None:
    """Store three minutes at the start of the hour that lies ``age`` seconds before T0."""
    rows = [row(NODE, T0 - age + 60 * m, cpu_mc=1) for age in ages for m in range(3)]
    get_store().write(cluster_id, "agent", Batch(rows=rows))


def kept(cluster_id: UUID, tier: str) -> list[int]:
    """Return the ages of the hours that a tier still has, youngest first."""
    columns = get_store().read(cluster_id, NODE, "cpu_mc", tier, T0 - 4000 * DAY, T0 + DAY)
    return sorted({(T0 - t + 3599) // 3600 * 3600 for t in columns.t})
