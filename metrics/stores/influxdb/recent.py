"""One process's cache of a cluster's newest stored rows, so that a pull reads none.

A live pull changes minutes of the last quarter of an hour and buckets of the last hour. The cache
is complete *from a time on*: a row that is not in it from then on is not stored either. That holds
as long as no other process writes the cluster, which its generation in the database shows. If
another one wrote minutes, these are read, and their wider buckets computed again.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from struct import Struct

from metrics.series.catalog import TIERS, Kind
from metrics.series.rollups import bucket_start
from metrics.series.rows import SeriesKey
from metrics.stores.influxdb.flux import Points
from metrics.stores.influxdb.names import NOTHING
from metrics.stores.influxdb.rows import Values

_ABSENT = NOTHING + 1
"""Stands for None in a packed row: 210 bytes a pod's minute, a third of a list."""
_OVERLAP_SECONDS = 120
"""Live pulls request the last minutes before the newest one again."""
_MISSED_SECONDS = 300


class Recent:
    """The newest rows of one cluster, by tier and series."""

    def __init__(self) -> None:
        self._since: dict[tuple[str, Kind], int] = {}
        self._rows: dict[str, dict[SeriesKey, dict[int, bytes]]] = {tier: {} for tier in TIERS}
        self._behind: int | None = None

    def since(self, tier: str, kind: Kind) -> int | None:
        """Return the Unix time from which all rows are cached; None if none are."""
        return self._since.get((tier, kind))

    def learn(self, tier: str, kinds: list[Kind], since: int, found: Points) -> None:
        """Cache all rows of some kinds from ``since`` on, as they were read."""
        for kind in kinds:
            self._since[tier, kind] = since
        for key, rows in found.items():
            self._rows[tier][key] = {ts: _pack(values) for ts, values in rows.items()}

    def fall_behind(self, spans: Iterable[tuple[int, int]]) -> None:
        """Record that other processes wrote minutes within these ranges; older ones are ignored."""
        oldest = min(self._since.values(), default=0)
        firsts = [first for first, last in spans if last >= oldest]
        if self._behind is not None:
            firsts.append(self._behind)
        self._behind = min(firsts, default=None)

    def catch_up(self, now: int) -> tuple[int, list[Kind]]:
        """Return the time from which to read minutes, and their kinds; drop the other kinds.

        If more than a few minutes were missed, all are dropped: reading them takes as long.
        """
        behind, self._behind = self._behind, None
        if behind is None:
            return 0, []
        needed = {tier: bucket_start(behind, TIERS["1h"]) for tier in TIERS}
        needed["1m"] = bucket_start(behind, TIERS["10m"])
        kinds: list[Kind] = []
        for kind in {kind for _, kind in self._since}:
            since = [(self.since(tier, kind), first) for tier, first in needed.items()]
            covered = all(ts is not None and ts <= first for ts, first in since)
            if covered and behind >= now - _MISSED_SECONDS:
                kinds.append(kind)
            else:
                self._forget(kind)
        return behind, kinds

    def _forget(self, kind: Kind) -> None:
        for tier, rows in self._rows.items():
            self._since.pop((tier, kind), None)
            self._rows[tier] = {key: some for key, some in rows.items() if key.kind != kind}

    def get(self, tier: str, key: SeriesKey, ts: int) -> Values | None:
        """Return a row's values; None if it is not stored, or not cached."""
        packed = self._rows[tier].get(key, {}).get(ts)
        return None if packed is None else _unpack(packed)

    def put(self, tier: str, key: SeriesKey, ts: int, values: Values) -> None:
        """Cache a row as it is stored now, if it is new enough."""
        since = self._since.get((tier, key.kind))
        if since is not None and ts >= since:
            self._rows[tier].setdefault(key, {})[ts] = _pack(values)

    def keys_at(self, tier: str, kind: Kind, ts: int) -> list[SeriesKey]:
        """Return the series of a kind that have a row at a time."""
        rows = self._rows[tier].items()
        return [key for key, by_ts in rows if key.kind == kind and ts in by_ts]

    def forget_old(self, newest: int) -> int:
        """Keep the rows that a pull after ``newest`` may change; return how many these are."""
        left = 0
        for tier in TIERS:
            width = TIERS["10m"] if tier == "1m" else TIERS["1h"]
            first = bucket_start(newest - _OVERLAP_SECONDS, width)
            for entry, since in self._since.items():
                if entry[0] == tier and since < first:
                    self._since[entry] = first
            remaining: dict[SeriesKey, dict[int, bytes]] = {}
            for key, rows in self._rows[tier].items():
                some = {ts: row for ts, row in rows.items() if ts >= first}
                if some:
                    remaining[key] = some
                    left += len(some)
            self._rows[tier] = remaining
        return left


@cache
def _layout(width: int) -> Struct:
    return Struct(f"<{width}q")


def _pack(values: Values) -> bytes:
    return _layout(len(values)).pack(*(_ABSENT if value is None else value for value in values))


def _unpack(packed: bytes) -> Values:
    values = _layout(len(packed) // 8).unpack(packed)
    return [None if value == _ABSENT else value for value in values]
