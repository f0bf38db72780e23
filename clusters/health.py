"""One pure function decides the health of a cluster; every count on every page comes from it.

The rules, of which the first that applies decides:

1. ``revoked``: an operator revoked the cluster.
2. ``pending``: it never connected, or it enrolled less than :data:`FIRST_DATA_SECONDS` ago and
   has not sent data yet.
3. ``unknown`` since T (was X), never green, when what is known is too old to be true now:

   * the tunnel is down for more than :data:`TUNNEL_GRACE_SECONDS` (an agent that reconnects at
     once changes nothing), or is recorded as up but was not seen for
     :data:`TUNNEL_SILENT_SECONDS`;
   * the newest data is older than :func:`data_limit_seconds`.

   The reason says which of the two, and what the hub or the last pull reported.
4. ``critical``: more than half of the nodes are not ready (so also an only one), a filesystem is
   :data:`FILESYSTEM_CRITICAL` full, or :data:`INODES_CRITICAL` of its inodes are used.
5. ``degraded``: any node is not ready, a filesystem is :data:`FILESYSTEM_DEGRADED` full or
   :data:`INODES_DEGRADED` of its inodes are used, memory in use is :data:`MEMORY_DEGRADED` of
   the capacity, or the cluster's identity was used from two places within
   :data:`CONFLICT_SECONDS`.
6. ``ok`` otherwise. A number that is not known is not judged.

``since`` is kept while the state stays; on a change to ``unknown`` it is the last moment at which
the state was known, else ``now``. ``was`` is the state before ``unknown``, else "".
No Django, no clock: ``now`` is an argument.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from clusters.status_numbers import StatusNumbers

State = Literal["critical", "degraded", "unknown", "pending", "ok", "revoked"]

WORST_FIRST: tuple[State, ...] = ("critical", "degraded", "unknown", "pending", "ok", "revoked")
"""The order of every list of clusters."""

TUNNEL_GRACE_SECONDS = 30
TUNNEL_SILENT_SECONDS = 60
FIRST_DATA_SECONDS = 180
DATA_MIN_LIMIT_SECONDS = 180
DATA_SETTLE_SECONDS = 30
CONFLICT_SECONDS = 3600
CLOCK_SKEW_REPORTED_MS = 60_000
FILESYSTEM_DEGRADED = 0.80
FILESYSTEM_CRITICAL = 0.90
INODES_DEGRADED = 0.90
INODES_CRITICAL = 0.95
MEMORY_DEGRADED = 0.90
REASON_LENGTH = 500  # characters; what the database's column holds
_NAMED_NODES = 3  # how many nodes a reason names


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts(StatusNumbers):
    """What is known of one cluster. None means not known and is not judged."""

    status: str  # enrolment: pending, active, revoked
    interval_seconds: int  # of pulls
    enrolled_at: datetime | None = None
    tunnel_up: bool = False
    tunnel_since: datetime | None = None  # when it came up or went down
    tunnel_seen_at: datetime | None = None
    tunnel_reason: str = ""  # why it went down
    data_as_of: datetime | None = None  # end of the newest minute
    last_pull_at: datetime | None = None
    pull_error: str = ""  # of the last pull, "" if it was good
    clock_skew_ms: int | None = None  # the cluster's clock minus ours
    settle_seconds: int = 0  # by our clock, until a minute is complete at its source
    conflict_at: datetime | None = None
    conflict_detail: str = ""


@dataclass(frozen=True, slots=True)
class Health:
    """A judgement: ``state`` since when, what it ``was`` before ``unknown``, and why."""

    state: State
    since: datetime | None = None
    was: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class _Finding:
    state: Literal["critical", "degraded"]
    text: str


@dataclass(frozen=True, slots=True)
class _Stale:
    known_until: datetime | None
    text: str


def judge(facts: Facts, recorded: Health, now: datetime) -> Health:
    """Return the cluster's health at ``now``.

    Args:
        facts: what is known about the cluster.
        recorded: the last recorded health; supplies ``since`` and ``was``.
        now: time for which to judge, aware.
    """
    if facts.status == "revoked":
        return _continue(recorded, "revoked", now, "revoked by an operator")
    waiting = _waiting(facts, now)
    if waiting:
        return _continue(recorded, "pending", now, waiting)
    stale = _stale(facts, now)
    if stale:
        return _unknown(recorded, stale, now)
    findings = sorted(_findings(facts, now), key=lambda finding: finding.state)
    if findings:
        reason = "; ".join(finding.text for finding in findings)
        return _continue(recorded, findings[0].state, now, reason)
    return _continue(recorded, "ok", now, _all_well(facts))


def data_limit_seconds(interval_seconds: int, settle_seconds: int = 0) -> int:
    """Return the age above which data says nothing about now: three pulls, at least 180 s.

    A source that completes its minutes late (``settle_seconds``) gets that much longer.
    """
    limit = max(3 * interval_seconds + DATA_SETTLE_SECONDS, DATA_MIN_LIMIT_SECONDS)
    return limit + settle_seconds


def age_seconds(then: datetime | None, now: datetime) -> float | None:
    """Return how old ``then`` is, at least 0 (clocks differ); None for None."""
    return None if then is None else max(0.0, (now - then).total_seconds())


def _waiting(facts: Facts, now: datetime) -> str:
    """Return why there cannot be any data yet, or ""."""
    if facts.data_as_of is not None:
        return ""
    if facts.tunnel_seen_at is None and not facts.tunnel_up:
        if facts.enrolled_at is None:
            return "waiting for its agent"
        return "enrolled; its tunnel has not come up yet"
    first_contact = max(filter(None, (facts.enrolled_at, facts.tunnel_since)), default=now)
    if facts.tunnel_up and (now - first_contact).total_seconds() < FIRST_DATA_SECONDS:
        return "connected; waiting for the first data"
    return ""


def _stale(facts: Facts, now: datetime) -> _Stale | None:
    """Return since when nothing is known and why, or None while the facts are fresh."""
    return _tunnel_lost(facts, now) or _data_old(facts, now)


def _tunnel_lost(facts: Facts, now: datetime) -> _Stale | None:
    if not facts.tunnel_up:
        down_at = facts.tunnel_since or facts.tunnel_seen_at
        age = age_seconds(down_at, now)
        if age is None or age > TUNNEL_GRACE_SECONDS:
            return _Stale(down_at, f"tunnel lost: {facts.tunnel_reason or 'no reason known'}")
        return None
    age = age_seconds(facts.tunnel_seen_at, now)
    if age is not None and age > TUNNEL_SILENT_SECONDS:
        return _Stale(facts.tunnel_seen_at, "tunnel lost: the hub has not seen it answer")
    return None


def _data_old(facts: Facts, now: datetime) -> _Stale | None:
    age = age_seconds(facts.data_as_of, now)
    limit = data_limit_seconds(facts.interval_seconds, facts.settle_seconds)
    if age is not None and age <= limit:
        return None
    where = "tunnel up" if facts.tunnel_up else "tunnel just lost"
    if facts.pull_error:
        text = f"{where} but pulls fail: {facts.pull_error}"
    elif age_seconds(facts.last_pull_at, now) is None:
        text = f"{where}, but Ops Center has not pulled from it yet"
    elif (age_seconds(facts.last_pull_at, now) or 0) > data_limit_seconds(facts.interval_seconds):
        text = f"{where}, but Ops Center has not pulled from it lately: look at the worker"
    else:
        text = f"{where} and pulls work, but they bring no new data"
    return _Stale(facts.data_as_of, text + _of_its_clock(facts))


def _of_its_clock(facts: Facts) -> str:
    """Return the end of a sentence if the clock is far off, or ""."""
    skew_ms = facts.clock_skew_ms or 0
    if abs(skew_ms) < CLOCK_SKEW_REPORTED_MS:
        return ""
    side = "ahead of" if skew_ms > 0 else "behind"
    return f"; its clock is {abs(skew_ms) // 1000} s {side} ours"


def _findings(facts: Facts, now: datetime) -> list[_Finding]:
    """Return everything that is wrong according to fresh data."""
    found = [
        _nodes(facts),
        _fill(
            "filesystem {name} is {percent} full",
            (facts.fs_worst_ratio, facts.fs_worst_name),
            FILESYSTEM_DEGRADED,
            FILESYSTEM_CRITICAL,
        ),
        _fill(
            "{percent} of the inodes of {name} are used",
            (facts.inodes_worst_ratio, facts.inodes_worst_name),
            INODES_DEGRADED,
            INODES_CRITICAL,
        ),
        _memory(facts),
        _conflict(facts, now),
    ]
    return [finding for finding in found if finding is not None]


def _nodes(facts: Facts) -> _Finding | None:
    if facts.nodes_total is None or facts.nodes_ready is None:
        return None
    if facts.nodes_total == 0:
        return _Finding("degraded", "the cluster reports no nodes")
    missing = facts.nodes_total - facts.nodes_ready
    if missing <= 0:
        return None
    names = [*facts.nodes_not_ready[:_NAMED_NODES]]
    more = missing - len(names)
    listed = ", ".join(names) + (f" and {more} more" if names and more > 0 else "")
    if facts.nodes_total == 1:
        text = "the only node is not ready" + (f": {listed}" if listed else "")
        return _Finding("critical", text)
    text = f"{missing} of {facts.nodes_total} nodes are not ready" + (
        f": {listed}" if listed else ""
    )
    return _Finding("critical" if 2 * missing > facts.nodes_total else "degraded", text)


def _fill(
    sentence: str, measured: tuple[float | None, str], degraded: float, critical: float
) -> _Finding | None:
    """Judge a ratio 0..1 against two limits; ``sentence`` gets its name and percentage."""
    ratio, name = measured
    if ratio is None or ratio < degraded:
        return None
    text = sentence.format(name=name or "(not named)", percent=_percent(ratio))
    return _Finding("critical" if ratio >= critical else "degraded", text)


def _memory(facts: Facts) -> _Finding | None:
    if facts.mem_ws is None or not facts.mem_cap or facts.mem_ws < MEMORY_DEGRADED * facts.mem_cap:
        return None
    return _Finding("degraded", f"memory is {_percent(facts.mem_ws / facts.mem_cap)} used")


def _conflict(facts: Facts, now: datetime) -> _Finding | None:
    age = age_seconds(facts.conflict_at, now)
    if age is None or age > CONFLICT_SECONDS:
        return None
    detail = f": {facts.conflict_detail}" if facts.conflict_detail else ""
    return _Finding("degraded", f"its identity is used from two places{detail}")


def _all_well(facts: Facts) -> str:
    if not facts.nodes_total:
        return ""
    if facts.nodes_total == 1:
        return f"its node is ready{_of_its_clock(facts)}"
    return f"all {facts.nodes_total} nodes are ready{_of_its_clock(facts)}"


def _percent(ratio: float) -> str:
    """Return a ratio as whole percent, rounded down so that 99.9 % is not called full."""
    return f"{int(ratio * 100 + 1e-9)} %"


def _continue(recorded: Health, state: State, now: datetime, reason: str) -> Health:
    """Return a state other than unknown, keeping ``since`` while the state stays."""
    since = recorded.since if recorded.state == state and recorded.since else now
    return Health(state, since, "", reason[:REASON_LENGTH])


def _unknown(recorded: Health, stale: _Stale, now: datetime) -> Health:
    """Return unknown since the last moment that was known, not before the state it replaces."""
    reason = stale.text[:REASON_LENGTH]
    if recorded.state == "unknown":
        since = recorded.since or stale.known_until or now
        return Health("unknown", since, recorded.was, reason)
    since = min(stale.known_until or now, now)
    if recorded.since is not None:
        since = max(since, min(recorded.since, now))
    return Health("unknown", since, recorded.state, reason)
