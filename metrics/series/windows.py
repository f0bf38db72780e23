"""The units of time of a stream: minutes, buckets, and the windows of the ledger. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

MINUTE = 60
BUCKET = 600
HOUR = 3600
DAY = 86_400
STREAM = "agent"
"""The one stream of a cluster that the ledger knows; named by what fed it first."""

WindowState = Literal["done", "gap", "lost"]
Reason = Literal[
    "", "tunnel_down", "service_down", "consent_off", "bad_response", "centre_down",
    "not_enrolled", "agent_stopped", "collector_failed", "clock_jumped", "lost_at_source",
    "source_restarted", "spool_expired", "store_damaged", "pending",
]  # fmt: skip
"""Why a window is, or was, incomplete. ``consent_off``: the agent's owner lets nobody reach the
service. Losses at the source: our agent did not run (``agent_stopped``), or ran and saw nothing
(``collector_failed``); its clock was set over the time (``clock_jumped``); another source has
nothing (``lost_at_source``), as its data begins anew later (``source_restarted``); either no longer
has it (``spool_expired``). ``store_damaged`` is in no ledger: the data was stored and can no longer
be read. ``pending`` is a gap that was not requested yet; "" where nothing was ever missing. A gap
that was filled keeps its reason, so that the ledger shows what happened."""

ALSO = "; also: "
"""Stands between the causes in a detail of the ledger."""
MOST_CAUSES = 3
"""Causes that a detail names."""


@dataclass(frozen=True, slots=True)
class Window:
    """One window of the gap ledger: an aligned range of one stream and what became of it.

    ``got`` and ``expected`` count minutes. ``attempts`` counts pulls that included the window.
    """

    start: int
    end: int
    state: WindowState
    got: int
    expected: int
    attempts: int
    reason: Reason
    detail: str
    filled_at: int | None
    """When a former gap was filled; None for windows that came in time or are still open."""
    resolution: int = 60
    """The finest step in seconds at which the range is stored: wider where the source's raw data
    was gone and its own rollups filled the gap."""


@dataclass(frozen=True, slots=True)
class Position:
    """How far a stream has been pulled: complete to ``watermark``, newest data to ``head``."""

    watermark: int | None
    head: int | None


def utc_datetime(moment: float) -> datetime:
    """Return a moment in Unix seconds as an aware datetime in UTC."""
    return datetime.fromtimestamp(moment, UTC)


def floor_minute(moment: float) -> int:
    """Return the start of the minute that contains the Unix time ``moment``."""
    return int(moment // MINUTE) * MINUTE


def floor_bucket(moment: float) -> int:
    """Return the start of the bucket that contains the Unix time ``moment``."""
    return int(moment // BUCKET) * BUCKET
