"""One pure function decides the health of a cluster; every count on every page comes from it.

The rules, of which the first that applies decides:

1. ``revoked``: an operator revoked the cluster.
2. ``pending``: it never connected, or it enrolled less than :data:`FIRST_DATA_SECONDS` ago and
   has not sent data yet.
3. ``unknown`` since T (was X), never green, when what is known is too old to be true now:

   * the tunnel is down for more than :data:`TUNNEL_GRACE_SECONDS` (an agent that reconnects at
     once changes nothing), or was not seen for :data:`TUNNEL_SILENT_SECONDS` and no hub saw it
     end: it is recorded as up, or was closed by a hub that started after another was killed;
   * the newest data is older than :func:`data_limit_seconds`.

   The reason says which of the two, and what the hub, the agent or the last pull reported. A time
   in the future counts as not known.
4. The worst of its :mod:`~clusters.findings`. ``critical``: more than half of the nodes are not
   ready (so also an only one), a filesystem is :data:`FILESYSTEM_CRITICAL` full, or
   :data:`INODES_CRITICAL` of its inodes are used. ``degraded``: any node is not ready, a
   filesystem is :data:`FILESYSTEM_DEGRADED` full or :data:`INODES_DEGRADED` of its inodes are
   used, memory in use is :data:`MEMORY_DEGRADED` of the capacity, a node reports pressure or has
   no numbers, the clock is :data:`CLOCK_SKEW_MS` off, or the cluster's identity was used from two
   places within :data:`CONFLICT_SECONDS`. ``unknown``: nothing worse is known, but of a node it is
   not known whether it is ready, or what was wrong before is not measured any more.
5. ``ok`` otherwise: all nodes are known to be ready.

``since`` is by evidence: the oldest of the worst findings, each with its own; of ``unknown`` the
last moment at which the state was known. ``was`` is the state before ``unknown``, else "".
No Django, no clock: ``now`` is an argument.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Literal

from clusters.findings import (
    CLOCK_SKEW_MS,
    CONFLICT_SECONDS,
    FILESYSTEM_CRITICAL,
    FILESYSTEM_DEGRADED,
    INODES_CRITICAL,
    INODES_DEGRADED,
    LARGEST_SKEW_MS,
    MEMORY_DEGRADED,
    clock,
    conflict,
    findings,
    reason_of,
    text_of,
)
from clusters.health_facts import LEVELS, UNSEEN_ENDS, Facts, Finding
from opscenter.core.ages import age_seconds

__all__ = [
    "CLOCK_SKEW_MS",
    "CONFLICT_SECONDS",
    "FILESYSTEM_CRITICAL",
    "FILESYSTEM_DEGRADED",
    "INODES_CRITICAL",
    "INODES_DEGRADED",
    "LARGEST_SKEW_MS",
    "MEMORY_DEGRADED",
    "Facts",
    "Finding",
    "Health",
    "State",
    "TunnelState",
    "data_limit_seconds",
    "judge",
    "session_state",
    "text_of",
    "tunnel_state",
]

State = Literal["critical", "degraded", "unknown", "pending", "ok", "revoked"]

WORST_FIRST: tuple[State, ...] = ("critical", "degraded", "unknown", "pending", "ok", "revoked")
"""The order of every list of clusters."""

TUNNEL_GRACE_SECONDS = 30
TUNNEL_SILENT_SECONDS = 60
FIRST_DATA_SECONDS = 180
DATA_MIN_LIMIT_SECONDS = 180
DATA_SETTLE_SECONDS = 30
_MINUTE_SECONDS = 65  # until the next minute is complete and served
REASON_LENGTH = 500  # characters; what the database's column holds


@dataclass(frozen=True, slots=True)
class Health:
    """A judgement: ``state`` since when, what it ``was`` before ``unknown``, and why.

    Attributes:
        findings: everything that was found, worst first; notes come last.
        at_least: whether the state may have begun before ``since``.
    """

    state: State
    since: datetime | None = None
    was: str = ""
    reason: str = ""
    findings: tuple[Finding, ...] = field(default=(), compare=False)
    at_least: bool = field(default=False, compare=False)

    @property
    def lost(self) -> float:
        """Return how much of the cluster is lost by its worst findings, 0..1; 1 where unknown."""
        if self.state == "unknown" and not any(one.share for one in self.findings):
            return 1.0
        return min(1.0, sum(one.share for one in self.findings if one.level == self.state))


@dataclass(frozen=True, slots=True)
class TunnelState:
    """Whether the tunnel is up, as far as is known at a moment.

    Attributes:
        state: ``unknown``: recorded as up, but the hub has not seen it answer.
        since: when it came up or went down, or was last seen; None if not known.
    """

    state: Literal["up", "down", "unknown"]
    since: datetime | None

    @property
    def up(self) -> bool | None:
        """Return whether it is up; None if that is not known."""
        return {"up": True, "down": False, "unknown": None}[self.state]


@dataclass(frozen=True, slots=True)
class _Stale:
    key: str
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
        return _plain(recorded, "revoked", now, "revoked by an operator")
    waiting = _waiting(facts, now)
    if waiting:
        return _plain(recorded, "pending", now, waiting)
    stale = _tunnel_lost(facts, now) or _data_old(facts, now)
    if stale:
        return _unknown(recorded, stale, facts, now)
    found = _dated(findings(facts, now), recorded, facts, now)
    wrong = [one for one in found if one.level != "note"]
    if not wrong:
        began = min(facts.data_as_of or now, now)
        return _plain(recorded, "ok", began, _all_well(facts, found), found)
    return _of_findings(found, recorded, facts)


def tunnel_state(facts: Facts, now: datetime) -> TunnelState:
    """Return whether the tunnel is up: the one answer of health, pages, API and figures."""
    if not facts.tunnel_up:
        return TunnelState("down", facts.tunnel_since or facts.tunnel_seen_at)
    age = age_seconds(facts.tunnel_seen_at, now)
    if age is None or age > TUNNEL_SILENT_SECONDS:
        return TunnelState("unknown", facts.tunnel_seen_at)
    return TunnelState("up", facts.tunnel_since)


def session_state(state: str, ended_at: datetime | None, seen_at: datetime, now: datetime) -> str:
    """Return the state of one tunnel: as recorded, or ``unknown`` if its hub went silent about it.

    Args:
        state: as the hub recorded it last.
        ended_at: when it ended; None if that is not recorded.
        seen_at: when it last spoke.
        now: time for which to say it, aware.
    """
    age = age_seconds(seen_at, now)
    if ended_at is None and (age is None or age > TUNNEL_SILENT_SECONDS):
        return "unknown"
    return state


def data_limit_seconds(interval_seconds: int, settle_seconds: int = 0) -> int:
    """Return the age above which data says nothing about now: three pulls, at least 180 s.

    A source that completes its minutes late (``settle_seconds``) gets that much longer.
    """
    limit = max(3 * interval_seconds + DATA_SETTLE_SECONDS, DATA_MIN_LIMIT_SECONDS)
    return limit + settle_seconds


def _waiting(facts: Facts, now: datetime) -> str:
    """Return why there cannot be any data yet, or ""."""
    if facts.data_as_of is not None:
        return ""
    if facts.tunnel_seen_at is None and not facts.tunnel_up:
        if facts.enrolled_at is None:
            return "waiting for its agent"
        return "enrolled; its tunnel has not connected yet"
    first_contact = max(filter(None, (facts.enrolled_at, facts.tunnel_since)), default=now)
    age = age_seconds(first_contact, now)
    if facts.tunnel_up and age is not None and age < FIRST_DATA_SECONDS:
        return "connected; waiting for the first data"
    return ""


def _tunnel_lost(facts: Facts, now: datetime) -> _Stale | None:
    tunnel = tunnel_state(facts, now)
    if tunnel.state == "up":
        return None
    if tunnel.state == "unknown":
        text = "tunnel lost: it no longer responds to the hub"
    else:
        age = age_seconds(tunnel.since, now)
        if age is not None and age <= _grace_seconds(facts):
            return None
        text = f"tunnel lost: {facts.tunnel_reason or 'reason unknown'}"
    return _Stale("tunnel", tunnel.since, facts.centre_problem or text)


def _grace_seconds(facts: Facts) -> int:
    """Return how long a tunnel that is down changes nothing.

    An end that no hub saw is dated by the last sign of life, which is up to half a minute older
    than a hub's start: it counts as if the tunnel had been silent all the while, no longer.
    """
    return TUNNEL_SILENT_SECONDS if facts.tunnel_reason in UNSEEN_ENDS else TUNNEL_GRACE_SECONDS


def _data_old(facts: Facts, now: datetime) -> _Stale | None:
    age = age_seconds(facts.data_as_of, now)
    if age is not None and age <= data_limit_seconds(facts.interval_seconds, facts.settle_seconds):
        return None
    return _Stale("data", facts.data_as_of, facts.centre_problem or _why_old(facts, now))


def _why_old(facts: Facts, now: datetime) -> str:
    """Return why no newer data is known."""
    where = "tunnel up" if facts.tunnel_up else "tunnel just lost"
    pulled, since = facts.last_pull_at, facts.tunnel_since
    if pulled is None:
        return f"{where}, but Ops Center has not pulled from it yet"
    if age_seconds(pulled, now) is None:
        return f"{where}, but the times on record lie in the future; the next pull replaces them"
    if facts.tunnel_up and since and pulled < since:
        return f"{where}, but Ops Center has not pulled from it since it came up"
    if facts.pull_error:
        return f"{where} but pulls fail: {facts.pull_error}"
    known_until = facts.data_as_of
    if known_until is not None and known_until > now:
        return f"{where}, but its newest data is of the future: its clock and its minutes disagree"
    # A good pull brings the minute that was the newest complete one.
    newest = timedelta(seconds=_MINUTE_SECONDS + facts.settle_seconds)
    late = (age_seconds(pulled, now) or 0) > data_limit_seconds(facts.interval_seconds)
    if late or (known_until is not None and pulled <= known_until + newest):
        return f"{where}, but Ops Center has not pulled from it recently: check worker and beat"
    if facts.collector_error:
        return f"{where}, but its agent cannot see the cluster: {facts.collector_error}"
    return f"{where} and pulls succeed, but return no new data"


def _dated(
    found: list[Finding], recorded: Health, facts: Facts, now: datetime
) -> tuple[Finding, ...]:
    """Return findings, worst first, each with a since: its own, the recorded one, or the data's."""
    if not found:
        return ()
    known = {(one.key, one.level): one for one in recorded.findings}
    began = min(facts.data_as_of or now, now)
    # What was not known right before may have been so already.
    unseen = recorded.state not in ("ok", "degraded", "critical")
    dated = []
    for one in found:
        before = known.get((one.key, one.level))
        if one.since is None and before is not None and before.since is not None:
            dated.append(replace(one, since=before.since, at_least=before.at_least))
        elif one.since is None and recorded.state == one.level and not recorded.findings:
            dated.append(replace(one, since=recorded.since or began))  # of a version before
        else:
            new = replace(one, since=began, at_least=unseen) if one.since is None else one
            dated.append(new)
    return tuple(sorted(dated, key=lambda one: (LEVELS.index(one.level), -one.share)))


def _of_findings(found: tuple[Finding, ...], recorded: Health, facts: Facts) -> Health:
    """Return the state of the worst finding, since the oldest of that level."""
    level = found[0].level
    state: State = "critical" if level == "critical" else "degraded"
    state = "unknown" if level == "unknown" else state
    oldest = min(
        (one for one in found if one.level == level and one.since is not None),
        key=lambda one: one.since,  # type: ignore[arg-type, return-value]
    )
    was = _was(recorded) if state == "unknown" else ""
    reason = reason_of([one for one in found if one.level != "note"], facts)[:REASON_LENGTH]
    return Health(state, oldest.since, was, reason, found, oldest.at_least)


def _all_well(facts: Facts, notes: tuple[Finding, ...]) -> str:
    """Return that all nodes are ready, or only report, with what is worth a note."""
    total = facts.nodes_total or 0
    says = "report" if any(note.key == "readiness" for note in notes) else "are ready"
    text = f"all {total} nodes {says}"
    if total == 1:
        text = "its node reports" if says == "report" else "its node is ready"
    return "; ".join([text, *(note.text for note in notes)])[:REASON_LENGTH]


def _plain(
    recorded: Health, state: State, began: datetime, reason: str, notes: tuple[Finding, ...] = ()
) -> Health:
    """Return a state that nothing is wrong in, keeping ``since`` while the state stays."""
    since = recorded.since if recorded.state == state and recorded.since else began
    return Health(state, since, "", reason[:REASON_LENGTH], notes)


def _was(recorded: Health) -> str:
    return recorded.was if recorded.state == "unknown" else recorded.state


def _unknown(recorded: Health, stale: _Stale, facts: Facts, now: datetime) -> Health:
    """Return unknown since the last moment that was known, not before the state it replaces."""
    # What the hub itself saw is as true as before.
    own = [one for one in (clock(facts), conflict(facts, now)) if one is not None]
    found = [Finding(stale.key, "unknown", stale.text, share=1.0), *own]
    reason = "; ".join(one.text for one in found)[:REASON_LENGTH]
    if recorded.state == "unknown" and recorded.since is not None:
        since = recorded.since
    else:
        since = min(stale.known_until or now, now)
        if recorded.since is not None:
            since = max(since, min(recorded.since, now))
    known = {(one.key, one.level): one for one in recorded.findings}
    told = tuple(
        replace(one, since=since, at_least=one.key != stale.key)
        if one.key == stale.key or (before := known.get((one.key, one.level))) is None
        else replace(one, since=before.since, at_least=before.at_least)
        for one in found
    )
    return Health("unknown", since, _was(recorded), reason, told)
