"""Copy one metric store into another, block by block, each compared by count and checksum.

Nothing is stored between two runs: a block whose count and checksum are the same in both stores is
already copied. So a copy that was killed continues where it stopped, and a second run after the
pulls have stopped copies only what came since.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol
from uuid import UUID

from metrics.series.catalog import CATALOG, TIERS, Kind
from metrics.series.windows import Window
from metrics.stores import checksum
from metrics.stores.copier import MetricCopier, StoredRow
from metrics.stores.writer import Batch, MetricWriter

BLOCK_BUCKETS = 60
"""Bucket starts in a block: an hour of minutes, ten hours of 10m, two and a half days of 1h."""
ROWS_IN_A_LOAD = 5_000
WINDOWS_IN_A_WRITE = 5_000
FAR = 1 << 33  # Unix seconds, later than any data

Since = Callable[[UUID, Kind, str], int]
"""Returns the Unix time from which rows of a cluster's kind and tier are copied: older ones have
expired."""


@dataclass(slots=True)
class Tally:
    """The result for one cluster's kind and tier."""

    cluster: UUID
    kind: Kind
    tier: str
    rows: int = 0
    there: int = 0
    """Rows in blocks that were the same already."""
    copied: int = 0
    better: int = 0
    """Rows of which the target has a better one: it was written to already."""
    missing: int = 0
    """Rows that the target does not have, or has differently."""


class Target(MetricCopier, MetricWriter, Protocol):
    """A store that rows, ledger windows and positions are copied into."""


class Copier:
    """Copies from one store into another.

    Args:
        source: the store to read.
        target: the store to write.
        since: returns the time from which rows are copied.
        only_check: whether to compare only, and write nothing.
    """

    def __init__(
        self, source: MetricCopier, target: Target, since: Since, *, only_check: bool = False
    ) -> None:
        self._source = source
        self._target = target
        self._since = since
        self._only_check = only_check

    def cluster(self, cluster: UUID, streams: Sequence[str]) -> Iterator[Tally]:
        """Copy one cluster; yield the result of each kind and tier.

        Positions are copied last: before that, pulls into the target must not skip anything.

        Raises:
            StoreError: a store fails; run it again.
        """
        if not self._only_check:
            self._target.put_series(cluster, self._source.series(cluster))
        for kind in CATALOG:
            for tier in TIERS:
                yield self._rows(cluster, kind, tier)
            if not self._only_check:
                self._target.put_last(cluster, self._source.last(cluster, kind))
        if not self._only_check:
            for stream in streams:
                self._stream(cluster, stream)

    def differences(self, cluster: UUID, streams: Sequence[str]) -> list[str]:
        """Return the differences of the two stores other than rows, in words.

        A target that is ahead of the source is not a difference.
        """
        found = []
        theirs = {entry.key: entry for entry in self._target.series(cluster)}
        lacking = sum(entry.key not in theirs for entry in self._source.series(cluster))
        if lacking:
            found.append(f"{lacking} series are missing")
        for kind in CATALOG:
            newest = {row.key: row.ts for row in self._target.last(cluster, kind)}
            older = sum(
                newest.get(row.key, -1) < row.ts for row in self._source.last(cluster, kind)
            )
            if older:
                found.append(f"{older} newest {kind} values are missing")
        for stream in streams:
            found += self._stream_differences(cluster, stream)
        return found

    def _stream_differences(self, cluster: UUID, stream: str) -> list[str]:
        found = []
        ours, theirs = (s.position(cluster, stream) for s in (self._source, self._target))
        for name in ("watermark", "head"):
            wanted, present = getattr(ours, name), getattr(theirs, name)
            if wanted is not None and (present is None or present < wanted):
                found.append(f"the {name} is behind")
        lacking = len(self._better_windows(cluster, stream))
        if lacking:
            found.append(f"{lacking} windows of the ledger are missing or behind")
        return found

    def _better_windows(self, cluster: UUID, stream: str) -> list[Window]:
        """Return the source's ledger windows that are more complete than the target's."""
        known = {window.start: window for window in self._target.windows(cluster, stream, 0, FAR)}
        windows = self._source.windows(cluster, stream, 0, FAR)
        return [window for window in windows if _is_more_complete(window, known.get(window.start))]

    def _rows(self, cluster: UUID, kind: Kind, tier: str) -> Tally:
        tally = Tally(cluster, kind, tier)
        width = BLOCK_BUCKETS * TIERS[tier]
        since = self._since(cluster, kind, tier)
        rows = self._source.scan(cluster, kind, tier, since, FAR)
        for number, block in groupby(rows, key=lambda row: row.ts // width):
            span = max(since, number * width), (number + 1) * width
            self._block(tally, list(block), span)
        return tally

    def _block(self, tally: Tally, rows: list[StoredRow], span: tuple[int, int]) -> None:
        where = (tally.cluster, tally.kind, tally.tier, *span)
        wanted = (len(rows), checksum.add(rows))
        tally.rows += len(rows)
        if self._target.counts(*where) == wanted:
            tally.there += len(rows)
            return
        if not self._only_check:
            for at in range(0, len(rows), ROWS_IN_A_LOAD):
                part = rows[at : at + ROWS_IN_A_LOAD]
                self._target.load(tally.cluster, tally.kind, tally.tier, part)
            tally.copied += len(rows)
            if self._target.counts(*where) == wanted:
                return
        stored = {(row.ts, row.key): row for row in self._target.scan(*where)}
        for row in rows:
            found = stored.get((row.ts, row.key))
            if found is not None and found.n > row.n:
                tally.better += 1
            elif found != row:
                tally.missing += 1

    def _stream(self, cluster: UUID, stream: str) -> None:
        """Copy a stream's ledger, then its position."""
        windows = self._better_windows(cluster, stream)
        for first in range(0, len(windows), WINDOWS_IN_A_WRITE):
            part = windows[first : first + WINDOWS_IN_A_WRITE]
            self._target.write(cluster, stream, Batch(windows=part))
        at = self._source.position(cluster, stream)
        self._target.write(cluster, stream, Batch(watermark=at.watermark, head=at.head))


def _is_more_complete(window: Window, other: Window | None) -> bool:
    """Return whether a window is more complete than the target's of the same start, if any.

    What was filled or requested again in the target since stays as it is there.
    """
    if other is None:
        return True
    ours, theirs = ((one.end, one.got, one.state == "done") for one in (window, other))
    return ours > theirs or (ours == theirs and window.attempts > other.attempts)
