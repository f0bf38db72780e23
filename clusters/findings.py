"""Findings: everything that is wrong, or not known, by fresh data. Pure; no Django.

The limits are here; :mod:`clusters.health` makes one state of the findings.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from clusters.conditions import OF_NODES, Condition
from clusters.health_facts import LEVELS, Facts, Finding, Level
from opscenter.core.ages import age_seconds
from opscenter.core.text import minute_utc

CONFLICT_SECONDS = 3600
CLOCK_SKEW_MS = 60_000
LARGEST_SKEW_MS = (1 << 31) - 1
FILESYSTEM_DEGRADED = 0.80
FILESYSTEM_CRITICAL = 0.90
INODES_DEGRADED = 0.90
INODES_CRITICAL = 0.95
MEMORY_DEGRADED = 0.90
_NAMED = 3  # how many nodes a sentence names
_GIB, _MIB = 1 << 30, 1 << 20


def findings(facts: Facts, now: datetime) -> list[Finding]:
    """Return what fresh data says is wrong, not known or worth a note; nodes first.

    Args:
        facts: what is known about the cluster; its data is fresh.
        now: time for which to judge, aware.
    """
    found = _nodes(facts)
    if facts.conditions:
        parts = [_part(one) for one in facts.conditions if one.what not in OF_NODES]
        found += [part for part in parts if part is not None]
    found += _without_conditions(facts, {finding.key.partition(":")[0] for finding in found})
    found += [one for one in (clock(facts), conflict(facts, now)) if one is not None]
    return found


def clock(facts: Facts) -> Finding | None:
    """Return that the cluster's clock is far off; None if it is not, or not known."""
    skew_ms = facts.clock_skew_ms or 0
    if abs(skew_ms) < CLOCK_SKEW_MS:
        return None
    side = "ahead" if skew_ms > 0 else "behind"
    # What the database holds at most is less than the truth.
    more = "more than " if abs(skew_ms) >= LARGEST_SKEW_MS else ""
    length = f"{more}{_length(abs(skew_ms) // 1000)}"
    return Finding("clock", "degraded", f"its clock is {length} {side}")


def _length(seconds: int) -> str:
    """Return a length of time in its largest unit of which there are two: "90 s", "65 min"."""
    if seconds < 120:
        return f"{seconds} s"
    return f"{seconds // 60} min" if seconds < 7200 else f"{seconds // 3600} h"


def text_of(one: Condition) -> str:
    """Return what a condition says as a finding; "" for one that is none."""
    found = _node(one, "degraded", 0.0) if one.what in OF_NODES else _part(one)
    return "" if found is None else found.text


def reason_of(found: Sequence[Finding], facts: Facts) -> str:
    """Return what findings say, in one line: the worst first, those of nodes in one part each."""
    order = sorted(found, key=lambda one: (LEVELS.index(one.level), -one.share))
    parts: dict[str, None] = {}
    for one in order:
        if not _of_nodes(one):
            parts[one.text] = None
            continue
        group = [o for o in order if _of_nodes(o) and (o.level == "unknown") == _unknown(one)]
        parts[_node_words(group, facts, unknown=_unknown(one))] = None
    return "; ".join(parts)


def _of_nodes(one: Finding) -> bool:
    return one.key.startswith("node:") or one.key in ("nodes_lost", "nodes_unknown")


def _unknown(one: Finding) -> bool:
    return one.level == "unknown"


def _node_words(group: Sequence[Finding], facts: Facts, *, unknown: bool) -> str:
    """Return "2 of 3 nodes are not ready: n1, n2", or whose readiness is not known."""
    total = facts.nodes_total or 0
    count = (facts.nodes_unknown or 0) if unknown else total - _fine(facts)
    names = [one.key.removeprefix("node:") for one in group if one.key.startswith("node:")]
    shown = names[:_NAMED]
    more = count - len(shown)
    listed = ", ".join(shown) + (f" and {more} more" if shown and more > 0 else "")
    tail = f": {listed}" if listed else ""
    verb = "is" if count == 1 else "are"
    who = "the only node" if total == 1 else f"{count} of {total} nodes"
    if unknown:
        return f"it is not known whether {who} {verb} ready{tail}"
    return f"{who} {verb} not ready{tail}"


def _fine(facts: Facts) -> int:
    """Return how many nodes are ready, or may be."""
    return (facts.nodes_ready or 0) + (facts.nodes_unknown or 0)


def _nodes(facts: Facts) -> list[Finding]:
    """Return one finding a node, and "nodes" for those that are not named."""
    total = facts.nodes_total
    if not total:
        text = "the cluster reports no nodes" if total == 0 else "nothing is known of its nodes"
        return [Finding("nodes", "degraded" if total == 0 else "unknown", text, share=1.0)]
    unknown = facts.nodes_unknown or 0
    lost = max(0, total - _fine(facts))
    if not (lost or unknown or facts.conditions or facts.nodes_not_ready):
        return []  # as of most clusters: lists judge thousands of them
    level: Level = "critical" if 2 * lost > total else "degraded"
    known_names = {one.node for one in facts.conditions if one.what in OF_NODES}
    named = [one for one in facts.conditions if one.what in OF_NODES]
    named += [
        Condition(what="not_ready", node=name)
        for name in facts.nodes_not_ready
        if name not in known_names
    ]
    found = [_node(one, level, 1 / total) for one in named]
    of_unknown = sum(map(_unknown, found))
    return found + _not_named(lost - len(found) + of_unknown, unknown - of_unknown, level, total)


def _not_named(lost: int, unknown: int, level: Level, total: int) -> list[Finding]:
    """Return findings of nodes that are counted and not named: lists name the first ones only."""
    found = []
    if lost > 0:
        found.append(Finding("nodes_lost", level, f"{lost} more not ready", share=lost / total))
    if unknown > 0:
        text = f"{unknown} more of which it is not known"
        found.append(Finding("nodes_unknown", "unknown", text, share=unknown / total))
    return found


def _node(one: Condition, level: Level, share: float) -> Finding:
    detail = f": {one.detail}" if one.detail else ""
    match one.what:
        case "not_said":
            text, level = f"it is not known whether node {one.node} is ready{detail}", "unknown"
        case "missing":
            text = f"node {one.node} sends nothing any more{detail}"
        case _:
            text = f"node {one.node} is not ready{detail}"
    return Finding(one.key, level, text, one.since, one.at_least, share)


def _part(one: Condition) -> Finding | None:
    """Return the finding of a condition that is none of a node's readiness; None if it is none."""
    if one.gone_at is not None:
        text = f"{_was(one)}, not measured since {minute_utc(one.gone_at.timestamp())}"
        return Finding(one.key, "unknown", text, one.gone_at)
    level, text = _judged(one)
    return None if level is None else Finding(one.key, level, text, one.since, one.at_least)


def _judged(one: Condition) -> tuple[Level | None, str]:
    """Return how bad a condition is, None if not at all, and what it says."""
    level: Level | None = "degraded"
    match one.what:
        case "filesystem":
            level = _level(one.ratio, FILESYSTEM_DEGRADED, FILESYSTEM_CRITICAL)
            full = f"{one.name} on node {one.node} is {percent(one.ratio)} full"
            text = full + _size(one)
        case "inodes":
            level = _level(one.ratio, INODES_DEGRADED, INODES_CRITICAL)
            text = f"{percent(one.ratio)} of inodes used on {one.name} of node {one.node}"
        case "memory":
            level = _level(one.ratio, MEMORY_DEGRADED, 2)
            text = f"{percent(one.ratio)} of memory in use"
        case "pressure":
            text = f"node {one.node} reports {one.detail}"
        case "no_numbers":
            text = f"no numbers from node {one.node}: {one.detail}"
        case _:
            level, text = "note", _note(one)
    return level, text


def _note(one: Condition) -> str:
    match one.what:
        case "readiness":
            return "its source does not say whether nodes are ready"
        case "agent_outdated":
            return "its agent is outdated: it does not say what it cannot see"
    return f"{one.name or 'a part of it'} cannot be read: {one.detail}"


def _was(one: Condition) -> str:
    _, text = _judged(one)
    return text.replace(" is ", " was ", 1)


def _level(ratio: float | None, degraded: float, critical: float) -> Level | None:
    if ratio is None or ratio < degraded:
        return None
    return "critical" if ratio >= critical else "degraded"


def _without_conditions(facts: Facts, told: set[str]) -> list[Finding]:
    """Judge the numbers that lists show, where no condition says the same in detail."""
    found = []
    for what, ratio, worst, limit in (
        ("filesystem", facts.fs_worst_ratio, facts.fs_worst_name, FILESYSTEM_DEGRADED),
        ("inodes", facts.inodes_worst_ratio, facts.inodes_worst_name, INODES_DEGRADED),
        ("memory", _memory_ratio(facts), "", MEMORY_DEGRADED),
    ):
        # First what is cheap: lists judge thousands of clusters that are well.
        if ratio is None or ratio < limit or what in told:
            continue
        node, _, name = worst.partition(" ")
        one = _part(Condition(what=what, node=node, name=name or worst, ratio=ratio))  # type: ignore[arg-type]
        found += [one] if one is not None else []
    return found


def _memory_ratio(facts: Facts) -> float | None:
    if facts.mem_share is not None:
        return facts.mem_share
    return None if facts.mem_ws is None or not facts.mem_cap else facts.mem_ws / facts.mem_cap


def conflict(facts: Facts, now: datetime) -> Finding | None:
    """Return that the identity was used twice lately; a time in the future counts as lately."""
    age = age_seconds(facts.conflict_at, now)
    if facts.conflict_at is None or (age is not None and age > CONFLICT_SECONDS):
        return None
    detail = f": {facts.conflict_detail}" if facts.conflict_detail else ""
    return Finding("conflict", "degraded", f"its identity is in use in two places{detail}")


def percent(ratio: float | None) -> str:
    """Return a ratio as whole percent, rounded down so that 99.9 % is not called full."""
    return "? %" if ratio is None else f"{int(ratio * 100 + 1e-9)} %"


def _size(one: Condition) -> str:
    """Return the size of a small filesystem in brackets; of others it does not matter here."""
    if one.size is None or one.size >= 10 * _GIB:
        return ""
    amount = f"{one.size / _GIB:.1f} GiB" if one.size >= _GIB else f"{one.size / _MIB:.0f} MiB"
    return f" ({amount})"
