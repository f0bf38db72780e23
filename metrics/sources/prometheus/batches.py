"""How much of a window to request at once, so that every answer stays within the cap. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from metrics.series.catalog import Kind
from metrics.series.rows import SeriesInfo
from metrics.sources.prometheus.queries import QUERIES

MAX_SERIES = 20_000  # of one window, all kinds together
MAX_POINTS = 360  # six hours; servers accept 11,000
MAX_SLICE_ROWS = 100_000  # in memory, with everything else that is read
# VictoriaMetrics refuses more than 16 KB.
MAX_QUERY = 14_000
_LABEL_BYTES = 200
_POINT_BYTES = 27
_LIKELY_NODES = 10


class Plan:
    """Decides how to cut a window: minutes per slice, fields per request.

    Args:
        max_bytes: the cap on one decoded answer, in bytes.
        pods: expected number of pods; 0 if not known.
    """

    def __init__(self, max_bytes: int, *, pods: int = 0) -> None:
        self._budget = max_bytes / 2
        self._series: dict[Kind, int] = {
            "node": 2 * _LIKELY_NODES, "filesystem": 4 * _LIKELY_NODES, "pod": max(pods, 1),
        }  # fmt: skip
        self._scale = 1.0
        self.points = self._choose()

    def requests(self, points: int) -> list[list[int]]:
        """Return the query numbers of each request for ``points`` minutes."""
        groups: list[list[int]] = []
        size = length = 0.0
        for number, query in enumerate(QUERIES):
            own = self._bytes(query.kind, points)
            text = len(query.expr) + 50
            if not groups or size + own > self._budget or length + text > MAX_QUERY:
                groups.append([])
                size = length = 0.0
            groups[-1].append(number)
            size, length = size + own, length + text
        return groups

    def learn(self, infos: Iterable[SeriesInfo]) -> None:
        """Adjust to the number of series that a slice really had."""
        counts: dict[Kind, int] = {}
        for info in infos:
            counts[info.key.kind] = counts.get(info.key.kind, 0) + 1
        for kind, count in counts.items():
            self._series[kind] = max(self._series[kind], count)
        self.points = self._choose()

    def shrink(self) -> bool:
        """Request less at a time from now on; return whether that is possible."""
        before = (self.points, len(self.requests(self.points)))
        if before == (1, len(QUERIES)):
            return False
        while (self.points, len(self.requests(self.points))) == before:
            self._scale *= 2
            self.points = self._choose()
        return True

    def _choose(self) -> int:
        """Return how many minutes to request so that any single field fits into one answer."""
        rows = sum(self._series.values())
        points = max(1, min(MAX_POINTS, MAX_SLICE_ROWS // rows))
        largest = max(self._series, key=lambda kind: self._series[kind])
        while points > 1 and self._bytes(largest, points) > self._budget:
            points = (points + 1) // 2
        return points

    def _bytes(self, kind: Kind, points: int) -> float:
        return self._scale * self._series[kind] * (_LABEL_BYTES + points * _POINT_BYTES)
