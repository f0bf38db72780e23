"""Notes on a cluster: what is off though nothing fails. They change no state. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from django.conf import settings

from clusters.selectors import ClusterOverview
from metrics.pulling.status import PullState
from opscenter.pages.format import milliseconds, skew

CLOCK_MS = 5_000
"""A clock that is off by this much is worth a note; round trips blur less than that."""

SLOW_PULL_MS = 3_000
"""A pull that takes this long is slow: most take less than half a second."""

SHOWN_REMARKS = 3
_WORDS = {"clock": "clock off", "pull": "slow pulls", "backfill": "gaps", "agent": "old agent",
          "source": "source"}  # fmt: skip
_VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)")


@dataclass(frozen=True, slots=True)
class Note:
    """One note, and the tab of the cluster's page that says more."""

    key: Literal["clock", "pull", "backfill", "agent", "source"]
    text: str
    tab: str

    @property
    def word(self) -> str:
        """Return it in a word or two, for a tile."""
        return _WORDS[self.key]


def notes_of(overview: ClusterOverview, pulls: PullState) -> list[Note]:
    """Return the notes on a cluster; [] if there is nothing to note.

    A cluster that never reported, or was revoked, has none. Of one that is not reporting now, only
    what stays true meanwhile is noted.
    """
    if overview.health.state in ("pending", "revoked"):
        return []
    found = []
    if abs(overview.clock_skew_ms or 0) >= CLOCK_MS:
        found.append(Note("clock", f"clock {skew(overview.clock_skew_ms)}", "tunnel"))
    if overview.reporting and (pulls.duration_ms or 0) >= SLOW_PULL_MS:
        found.append(Note("pull", f"slow pulls: {milliseconds(pulls.duration_ms)}", "data"))
    if pulls.is_filling:
        words = "filling gaps" if overview.tunnel.up else "gaps to be filled"
        found.append(Note("backfill", words, "data"))
    for one in overview.health.findings:
        if one.level == "note":
            key: Literal["agent", "source"] = "agent" if one.key == "agent_outdated" else "source"
            found.append(Note(key, one.text, "data"))
    if is_outdated(overview.agent_version):
        found.append(Note("agent", f"agent outdated: {overview.agent_version}", "tunnel"))
    if pulls.notes:
        found.append(Note("source", f"source: {_remarks(pulls.notes)}", "data"))
    return found


def _remarks(notes: Sequence[str]) -> str:
    """Return the first of a source's notes, and how many more there are."""
    more = len(notes) - SHOWN_REMARKS
    return "; ".join(notes[:SHOWN_REMARKS]) + (f" and {more} more" if more > 0 else "")


def is_outdated(agent_version: str) -> bool:
    """Return whether an agent is older than this centre; False for a version that says nothing."""
    return _is_older(agent_version, settings.VERSION)


@lru_cache(maxsize=256)  # a fleet has few versions
def _is_older(version: str, than: str) -> bool:
    theirs, ours = _VERSION.match(version), _VERSION.match(than)
    if theirs is None or ours is None:
        return False
    return tuple(map(int, theirs.groups())) < tuple(map(int, ours.groups()))
