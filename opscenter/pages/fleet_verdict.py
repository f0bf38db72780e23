"""What the fleet page says of all clusters: that all is clear only where it is known."""

from __future__ import annotations

from dataclasses import dataclass

from clusters.health import State
from clusters.selectors import FleetTotals


@dataclass(frozen=True, slots=True)
class Verdict:
    """One sentence, the state whose mark it bears, and the rest of what is to be said."""

    state: State
    text: str
    detail: str = ""


def verdict(totals: FleetTotals, problem: str) -> Verdict | None:
    """Return what to say of all clusters; None where the list of those in need says it.

    Args:
        totals: of the clusters in scope.
        problem: what is not proven to work at Ops Center itself; "" if all of it is.
    """
    states = totals.states
    if not totals.clusters or states["critical"] or states["degraded"] or states["unknown"]:
        return None
    if problem:
        return Verdict("unknown", "It is not known whether all is clear.")
    waiting = states["pending"]
    if waiting:
        wait = f"{waiting:,} cluster{' is' if waiting == 1 else 's are'} waiting for first data."
        if not totals.reporting:
            return Verdict("pending", "No cluster has reported yet.", wait)
        return Verdict("pending", wait, "All others are reporting and healthy.")
    if totals.expected and totals.reporting == totals.expected == states["ok"]:
        return Verdict("ok", "All clear.", "Every cluster is reporting and healthy.")
    return None
