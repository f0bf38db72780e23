"""The order and size of the requests for missing data. Pure.

Gaps of the last hour come first, the newest of them first and each in its own request, because
people look at those. Then come the others, first those that the source will delete first; what it
has in wider values only is requested in complete ones. Times are Unix seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from metrics.connections.source_limits import _NEVER, SourceLimits
from metrics.series.windows import BUCKET, HOUR, Window

RECENT = 3600  # gaps younger than this are filled newest first


@dataclass(frozen=True, slots=True)
class Request:
    """One request: its windows, the range to request, and the expected step in seconds."""

    windows: tuple[Window, ...]
    start: int
    end: int
    step: int = 60

    def halves(self) -> list[Request]:
        """Return the request as two; only itself if it has a single window."""
        middle = len(self.windows) // 2
        if not middle:
            return [self]
        parts = (self.windows[:middle], self.windows[middle:])
        return [_request(part, self.step) for part in parts]

    def rest(self, reached: int) -> Request | None:
        """Return what is left when an answer ended at ``reached``; None if no full window is."""
        left = tuple(window for window in self.windows if window.start >= reached)
        return _request(left, self.step) if left else None


def plan(
    gaps: Iterable[Window], now: float, limits: SourceLimits, longest: int | None = None
) -> list[Request]:
    """Return the requests for all gaps, in the order in which to send them.

    Args:
        gaps: windows in state gap.
        now: current Unix time in seconds.
        limits: the source's limits.
        longest: longest window of one request in seconds; None for the source's own limit.
    """
    windows = sorted(gaps, key=_start_of)
    recent = [window for window in windows if window.end > now - RECENT]
    first = [_request((window,)) for window in reversed(recent)]
    older = windows[: len(windows) - len(recent)]
    grouped = _grouped(older, now, limits, longest or limits.longest_request)
    return first + [request for _, request in sorted(grouped, key=_urgency)]


def joined(windows: Iterable[Window], longest: int) -> list[Request]:
    """Return requests for windows, adjoining ones together, the oldest first."""
    found: list[list[Window]] = []
    for window in sorted(windows, key=_start_of):
        last = found[-1] if found else None
        if last and window.start == last[-1].end and window.end - last[0].start <= longest:
            last.append(window)
        else:
            found.append([window])
    return [_request(tuple(group)) for group in found]


def _grouped(
    windows: Sequence[Window], now: float, limits: SourceLimits, longest: int
) -> list[tuple[float, Request]]:
    """Return requests, each with the Unix time at which the source deletes its first values."""
    found: list[tuple[float, Request]] = []
    group: list[Window] = []
    step, expires = 0, _NEVER
    for window in windows:
        its_step, its_end = limits.step_at(window.start, now)
        width = HOUR if its_step > BUCKET else BUCKET
        if group and (
            its_step != step
            or window.start - window.start % width > group[-1].end
            or window.end - group[0].start > max(longest, width)
        ):
            found.append((expires, _request(tuple(group), step)))
            group = []
        if not group:
            step, expires = its_step, its_end
        group.append(window)
    if group:
        found.append((expires, _request(tuple(group), step)))
    return found


def _request(windows: tuple[Window, ...], step: int = 60) -> Request:
    """Return a request that covers windows; full hours where the source has nothing finer."""
    start, end = windows[0].start, windows[-1].end
    if step > BUCKET:
        start, end = start - start % HOUR, end + -end % HOUR
    return Request(windows, start, end, step)


def _urgency(entry: tuple[float, Request]) -> tuple[float, int]:
    return entry[0], entry[1].start


def _start_of(window: Window) -> int:
    return window.start
