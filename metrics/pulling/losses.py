"""Why minutes that a source answered for are lost: the ledger's reason, and its words. Pure.

The words say the cause without a number: a window has its own, and windows of one cause are joined
for display. Times are Unix seconds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from metrics.series.windows import ALSO, MINUTE, MOST_CAUSES, Reason, Window
from opscenter.core.text import minute_utc

SHORTEST_RETENTION = 7200
"""Seconds that every source keeps its data. What begins later was begun anew."""

_SAW_NOTHING = "the agent saw nothing"


@dataclass(frozen=True, slots=True)
class Coverage:
    """What one answer of the source covers: ``[start, end)``.

    Attributes:
        oldest: start of the oldest minute that the source still has; None if it has none, or if
            that is not known.
        resolution: step of its values in seconds.
        failed: minute -> why nothing was seen in it although the source ran.
        left_out: spans (from, to) that the source's clock was set over; see :func:`spans_left_out`.
        is_agent: whether the source is our agent: only then a minute without data says that the
            agent did not run.
    """

    start: int
    end: int
    oldest: int | None
    resolution: int = MINUTE
    failed: Mapping[int, str] = field(default_factory=dict)
    left_out: Sequence[tuple[float, float]] = ()
    is_agent: bool = True


def spans_left_out(steps: Iterable[tuple[int, float, float]]) -> list[tuple[float, float]]:
    """Return the spans of time (from, to) that a clock was set over, and has not shown since.

    Args:
        steps: (minute, from, to), in the order in which they happened.
    """
    spans: list[tuple[float, float]] = []
    for _, was, now in steps:
        if now > was:
            spans.append((was, now))
        else:
            spans = [(since, min(until, now)) for since, until in spans if since < now]
    return spans


def why_lost(
    absent: Sequence[int], coverage: Coverage, old: Window, now: float
) -> tuple[Reason, str]:
    """Return why minutes that the source does not have are lost: the most frequent reason.

    The detail names the causes, at most :data:`MOST_CAUSES`. Of equally frequent reasons that of
    the earliest minute counts.

    Args:
        absent: the lost minutes of a window, ascending, at least one.
        coverage: what the source answered for.
        old: the window before the answer; if it was lost, its minutes keep their reason unless the
            answer says something about them.
        now: current Unix time in seconds.
    """
    counts: Counter[Reason] = Counter()
    causes: dict[Reason, list[str]] = {}
    for minute in absent:
        known = old.state == "lost" and minute < old.end and minute not in coverage.failed
        reason, text = (old.reason, old.detail) if known else _why_absent(minute, coverage, now)
        counts[reason] += 1
        causes.setdefault(reason, []).extend(text.split(ALSO))
    reasons = [reason for reason, _ in counts.most_common()]
    told = dict.fromkeys(text for reason in reasons for text in causes[reason] if text)
    return reasons[0], ALSO.join(list(told)[:MOST_CAUSES])


def _why_absent(minute: int, coverage: Coverage, now: float) -> tuple[Reason, str]:
    if minute in coverage.failed:
        error = coverage.failed[minute]
        if not coverage.is_agent:
            return "lost_at_source", error
        told = error.startswith(_SAW_NOTHING)
        return (
            "collector_failed",
            error if told else f"{_SAW_NOTHING}: {error or 'no reason given'}",
        )
    for since, until in coverage.left_out:
        if since < minute + MINUTE and minute < until:
            step = f"from {minute_utc(since)} to {minute_utc(until)}"
            return "clock_jumped", f"the clock of the source was set {step}"
    oldest = coverage.oldest
    if oldest is not None and minute < oldest:
        if not coverage.is_agent and now - oldest < SHORTEST_RETENTION:
            return "source_restarted", f"the source's data begins anew at {minute_utc(oldest)}"
        return "spool_expired", f"the source keeps nothing from before {minute_utc(oldest)}"
    if coverage.is_agent:
        return "agent_stopped", "nothing was recorded"
    return "lost_at_source", "the source has no data of it"
