"""Which kubelets repeat an old summary: the times in it stand still.

A kubelet reads its node every 10 to 15 s and writes beside each reading when it was made. If none
of these times moves, something repeats what was once read: a proxy, a cache, a kubelet that hangs.
"""

from __future__ import annotations

from collections.abc import Container
from datetime import UTC, datetime
from typing import Any

from agent.collectors.kubefields import child, timestamp

STANDSTILL_SECONDS = 180.0
"""Seconds without a newer reading from which on a summary is not believed."""

_READINGS = ("cpu", "memory", "network", "fs")


class StaleSummaries:
    """Remembers of each node its newest reading, and since when it is the newest."""

    def __init__(self) -> None:
        self._newest: dict[str, tuple[float, float]] = {}

    def why_stale(self, node: str, summary: Any, now: float) -> str:
        """Return why a node's summary is not believed; "" if it is, or has no times to judge by.

        Args:
            node: the node's name.
            summary: its kubelet's answer.
            now: Unix time of this collection in seconds; only differences count, for a node's
                clock may be wrong.
        """
        read_at = _read_at(summary)
        if read_at is None:
            self._newest.pop(node, None)
            return ""
        known, since = self._newest.get(node, (None, now))
        if known != read_at or now < since:
            self._newest[node] = (read_at, now)
            return ""
        if now - since < STANDSTILL_SECONDS:
            return ""
        return f"it repeats those of {datetime.fromtimestamp(read_at, UTC):%Y-%m-%d %H:%M:%S} UTC"

    def keep_only(self, nodes: Container[str]) -> None:
        """Forget nodes that are gone."""
        self._newest = {name: seen for name, seen in self._newest.items() if name in nodes}


def _read_at(summary: Any) -> float | None:
    """Return when the newest reading of the node was made; None if none says it."""
    times = (timestamp(child(summary, "node", part, "time")) for part in _READINGS)
    return max((time for time in times if time is not None), default=None)
