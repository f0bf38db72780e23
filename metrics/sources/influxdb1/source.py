"""The ``influxdb`` source: an InfluxDB 1.x that Heapster and Telegraf write to (Gravity 5).

Its minutes are in the database's default retention policy, its rollups in others; which policies
there are, and how far back each goes, is queried, not assumed. Minutes are selected as they are,
never grouped by time: Heapster already writes one per minute, and this is five times cheaper.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from metrics.series.catalog import TIERS
from metrics.series.rows import SeriesKey
from metrics.series.source_answer import SourceAnswer
from metrics.series.windows import DAY, MINUTE
from metrics.sources.base import HttpClient, Probe, RawAnswer, Resolution
from metrics.sources.influxdb1.client import InfluxApi, StoredPolicy, resolutions_of
from metrics.sources.influxdb1.fetch import SETTLE_SECONDS, SHORT, Fetch
from metrics.sources.influxdb1.probe import probe
from metrics.sources.influxdb1.queries import RAW, Policy, identifier
from metrics.sources.influxdb1.raw import influxdb_raw
from metrics.sources.parse_concurrency import ParseSlot

RECENT = 3600  # InfluxDB keeps no policy shorter than this
_GRAVITY = (
    Resolution(MINUTE, DAY, "1m"),
    Resolution(300, 28 * DAY, "10m"),
    Resolution(3600, 364 * DAY, "1h"),
)


class InfluxSource:
    """Reads a window from an InfluxDB 1.x, in pieces where one answer does not hold it.

    Args:
        database: the database that Heapster writes to.
        budget_seconds: no further piece is requested after this many seconds, so that what was read
            is stored before the caller's deadline.

    Raises:
        ValueError: the database's name cannot be written in InfluxQL.
    """

    # Heapster writes a minute in batches of 10,000 points, so that the newest one may be half
    # there; one minute more heals what a pull saw too early.
    overlap_seconds: ClassVar[int] = 60
    # It scrapes 5 s after a minute's end and writes when the slowest node has answered.
    settle_seconds: ClassVar[int] = SETTLE_SECONDS
    longest_request_seconds: ClassVar[int] = 6 * 3600

    def __init__(self, database: str = "k8s", *, budget_seconds: float = 10.0) -> None:
        identifier(database)
        self._database = database
        self._budget_seconds = budget_seconds
        self._resolutions: Sequence[Resolution] = _GRAVITY

    @property
    def resolutions(self) -> Sequence[Resolution]:
        """Return how long the server keeps values of each width; Gravity's until it was queried."""
        return self._resolutions

    async def fetch(
        self, client: HttpClient, start: int, end: int, *, now: float, slot: ParseSlot
    ) -> SourceAnswer:
        """Return what the database has of ``[start, end)``; see :class:`.base.HttpSource`.

        Minutes, or where the window begins before them, the values of the finest rollup that goes
        back that far, up to the first of its buckets that has all minutes.

        Raises:
            ClusterError: nothing is known about the window.
        """
        api = InfluxApi(client, self._database, slot, self._budget_seconds)
        if end - start <= SHORT and start >= now - RECENT:
            stored = None
        else:
            stored = await api.stored_policies()
        fetch = Fetch(api, start, end, now)
        policy, until = RAW, end
        if stored:
            policy, until = _choose(stored, start, end)
        if policy is RAW:
            answer = await fetch.minutes(stored)
        else:
            answer = await fetch.rollups(policy, until, stored or [])
        self._resolutions = resolutions_of(api.policies) or self._resolutions
        return answer

    async def probe(self, client: HttpClient, *, now: float) -> Probe:
        """Return what the server has; see :class:`.base.HttpSource`."""
        with ParseSlot("live") as slot:
            api = InfluxApi(client, self._database, slot, self._budget_seconds)
            found = await probe(api, now)
        self._resolutions = resolutions_of(api.policies) or self._resolutions
        return replace(found, resolutions=self._resolutions)

    async def raw(
        self, client: HttpClient, key: SeriesKey, field: str, start: int, end: int, *, now: float
    ) -> RawAnswer:
        """Return the points of one series; see :class:`.base.RawSource`."""
        del now
        with ParseSlot("live") as slot:
            api = InfluxApi(client, self._database, slot, self._budget_seconds)
            return await influxdb_raw(api, key, field, start, end)


def _choose(stored: Sequence[StoredPolicy], start: int, end: int) -> tuple[Policy, int]:
    """Return the finest policy that reaches back to ``start``, and where its answer ends.

    The answer ends where finer values begin, rounded up to the coarse values' tier, so that every
    bucket is complete. Coarse values are requested only if at least one of them is older.
    """
    chosen, until = stored[0], end
    for coarser in stored[1:]:
        if start < chosen.begins and coarser.begins + coarser.policy.step <= chosen.begins:
            until = chosen.begins
            chosen = coarser
    width = TIERS[chosen.policy.tier]
    return chosen.policy, min(end, until + -until % width)
