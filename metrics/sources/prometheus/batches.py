"""How much of a window is asked for at once, so that every answer stays within the cap. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from metrics.series.catalog import Kind
from metrics.series.rows import SeriesInfo
from metrics.sources.prometheus.queries import QUERIES

MAX_SERIES = 20_000  # of one window, all kinds together
MAX_POINTS = 360  # six hours; servers accept 11,000
MAX_SLICE_ROWS = 100_000  # in memory with all that is read beside them
# VictoriaMetrics refuses more than 16 KB.
MAX_QUERY = 14_000
_LABEL_BYTES = 200
_POINT_BYTES = 27
_LIKELY_NODES = 10


class Plan:
    """Cuts a window: so many minutes at a time, so many fields in a request.

    Args:
        max_bytes: the cap on one answer.
        pods: how many pods there are, as far as known.
    """

    def __init__(self, max_bytes: int, *, pods: int = 0) -> None:
        self._budget = max_bytes / 2
        self._series: dict[Kind, int] = {
            "node": 2 * _LIKELY_NODES, "filesystem": 4 * _LIKELY_NODES, "pod": max(pods, 1),
        }  # fmt: skip
        self._scale = 1.0
        self.points = self._choose()

    def requests(self, points: int) -> list[list[int]]:
        """Return the numbers of the queries to ask in each request for so many minutes."""
        groups: list[list[int]] = []
        size = length = 0.0
        for number, query in enumerate(QUERIES):
            own = self._bytes(query.kind, points)
            long = len(query.expr) + 50
            if not groups or size + own > self._budget or length + long > MAX_QUERY:
                groups.append([])
                size = length = 0.0
            groups[-1].append(number)
            size, length = size + own, length + long
        return groups

    def learn(self, infos: Iterable[SeriesInfo]) -> None:
        """Take in how many series a slice really had."""
        counts: dict[Kind, int] = {}
        for info in infos:
            counts[info.key.kind] = counts.get(info.key.kind, 0) + 1
        for kind, count in counts.items():
            self._series[kind] = max(self._series[kind], count)
        self.points = self._choose()

    def shrink(self) -> bool:
        """Ask for less at a time; tell whether that is possible."""
        before = (self.points, len(self.requests(self.points)))
        if before == (1, len(QUERIES)):
            return False
        while (self.points, len(self.requests(self.points))) == before:
            self._scale *= 2
            self.points = self._choose()
        return True

    def _choose(self) -> int:
        """Return how many minutes fit, so that each single field does within one answer."""
        rows = sum(self._series.values())
        points = max(1, min(MAX_POINTS, MAX_SLICE_ROWS // rows))
        largest = max(self._series, key=lambda kind: self._series[kind])
        while points > 1 and self._bytes(largest, points) > self._budget:
            points = (points + 1) // 2
        return points

    def _bytes(self, kind: Kind, points: int) -> float:
        return self._scale * self._series[kind] * (_LABEL_BYTES + points * _POINT_BYTES)
