"""The series that the spool knows: a number for each name, and which ones to write."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import orjson

from agent.catalog import KINDS, Kind
from agent.samples import Sample

KEPT_SECONDS = 3600
"""Seconds between writes of a series' ``seen``, and by which it outlives its last minute."""

Row = tuple[int, int, str, str, str, bytes, int]
"""``sid, kind, ns, name, node, attrs, seen``, as in the spool's table."""


@dataclass(slots=True)
class Series:
    """One series; the newest node and attributes win."""

    sid: int
    kind: Kind
    ns: str
    name: str
    node: str
    attrs: bytes  # JSON object
    seen: int  # Unix time, at most KEPT_SECONDS from its newest minute


class SeriesTable:
    """All series in memory, and which of them differ from the disk."""

    def __init__(self) -> None:
        self._by_name: dict[tuple[Kind, str, str], Series] = {}
        self._by_sid: dict[int, Series] = {}
        self._changed: set[int] = set()
        self._next_sid = 1

    def load(self, rows: Iterable[Row]) -> None:
        """Load the series on the disk."""
        for sid, kind, ns, name, node, attrs, seen in rows:
            series = Series(sid, KINDS[kind], ns, name, node, attrs, seen)
            self._by_name[series.kind, ns, name] = series
            self._by_sid[sid] = series
            self._next_sid = max(self._next_sid, sid + 1)

    def get(self, sid: int) -> Series | None:
        """Return one series; None if it is not known (any more)."""
        return self._by_sid.get(sid)

    def sid(self, sample: Sample, start: int) -> int:
        """Return the number of a sample's series, seen in the minute ``start``."""
        key = (sample.kind, sample.ns, sample.name)
        attrs = orjson.dumps(dict(sample.attrs))
        series = self._by_name.get(key)
        if series is None:
            series = Series(self._next_sid, *key, sample.node, attrs, start)
            self._next_sid += 1
            self._by_name[key] = series
            self._by_sid[series.sid] = series
            self._changed.add(series.sid)
        elif (series.node, series.attrs) != (sample.node, attrs) or (
            abs(start - series.seen) >= KEPT_SECONDS
        ):
            series.node, series.attrs, series.seen = sample.node, attrs, start
            self._changed.add(series.sid)
        return series.sid

    def changed(self) -> list[Row]:
        """Return the rows that the disk does not have, or has in an older state."""
        return [
            (s.sid, KINDS.index(s.kind), s.ns, s.name, s.node, s.attrs, s.seen)
            for s in map(self._by_sid.__getitem__, sorted(self._changed))
        ]

    def written(self) -> None:
        """Note that the disk has everything."""
        self._changed.clear()

    def all_changed(self) -> None:
        """Note that the disk has nothing: it is a new file."""
        self._changed = set(self._by_sid)

    def forget(self, sids: Iterable[int]) -> None:
        """Drop series that the disk no longer has."""
        for sid in sids:
            series = self._by_sid.pop(sid, None)
            if series is not None:
                del self._by_name[series.kind, series.ns, series.name]
                self._changed.discard(sid)
