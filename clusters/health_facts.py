"""What health is judged from, and what it finds. Pure; no Django, no clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from clusters.conditions import Condition
from clusters.status_numbers import StatusNumbers

Level = Literal["critical", "degraded", "unknown", "note"]

LEVELS: tuple[Level, ...] = ("critical", "degraded", "unknown", "note")
"""Worst first. A note is worth a line and never changes the state."""


HUB_KILLED = "the hub ended without saying so"
HUB_FORGOT = "the hub lost track of it"
UNSEEN_ENDS = frozenset({HUB_KILLED, HUB_FORGOT})
"""Why a tunnel is recorded as down whose end no hub saw: it is down since it was last seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts(StatusNumbers):
    """What is known of one cluster. None means not known, which is never good."""

    status: str  # enrolment: pending, active, revoked
    interval_seconds: int  # of pulls
    enrolled_at: datetime | None = None
    tunnel_up: bool = False  # as recorded; clusters.health.tunnel_state judges it
    tunnel_since: datetime | None = None  # when it came up or went down
    tunnel_seen_at: datetime | None = None
    tunnel_reason: str = ""  # why it went down
    data_as_of: datetime | None = None  # end of the newest minute, by our clock
    last_pull_at: datetime | None = None
    pull_error: str = ""  # of the last pull, "" if it was good
    collector_error: str = ""  # why the source sees nothing of its cluster, "" if it sees
    clock_skew_ms: int | None = None  # the cluster's clock minus ours
    settle_seconds: int = 0  # by our clock, until a minute is complete at its source
    conflict_at: datetime | None = None
    conflict_detail: str = ""
    conditions: Sequence[Condition] = ()
    centre_problem: str = ""  # why Ops Center itself may know nothing newer, "" if it is fine


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, not known, or worth a note.

    Attributes:
        key: identifies it among those of its cluster: ``node:n3``, ``filesystem:n3:/``, ``clock``.
        level: how bad it is.
        text: what it is, in a few words.
        since: since when, by evidence; None if not known yet.
        at_least: whether it may have begun earlier.
        share: 0..1, how much of the cluster is lost by it.
    """

    key: str
    level: Level
    text: str
    since: datetime | None = None
    at_least: bool = False
    share: float = 0.0
