"""In which order, and in which pieces, a source is asked for what is missing. Pure.

Gaps of the last hour come first, the newest of them first and each by itself: people look at
those. Then come the others, those first that the source will forget first; what it has in wider
values only is asked for in whole ones. Times are Unix seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from metrics.connections.source_limits import _NEVER, SourceLimits
from metrics.series.windows import BUCKET, HOUR, Window

RECENT = 3600  # gaps younger than this are filled newest first


@dataclass(frozen=True, slots=True)
class Request:
    """One question: the windows that it is about, the range to ask for, the step expected."""

    windows: tuple[Window, ...]
    start: int
    end: int
    step: int = 60

    def halves(self) -> list[Request]:
        """Return the same as two questions; itself if it is about one line."""
        middle = len(self.windows) // 2
        if not middle:
            return [self]
        parts = (self.windows[:middle], self.windows[middle:])
        return [_request(part, self.step) for part in parts]

    def rest(self, reached: int) -> Request | None:
        """Return what is left when an answer ended at ``reached``; None if no whole line is."""
        left = tuple(window for window in self.windows if window.start >= reached)
        return _request(left, self.step) if left else None


def plan(
    gaps: Iterable[Window], now: float, limits: SourceLimits, longest: int | None = None
) -> list[Request]:
    """Return the questions for all gaps, in the order in which to ask them.

    Args:
        gaps: windows in state gap.
        now: the time.
        limits: of the source.
        longest: of one question, in seconds; the source's own limit if None.
    """
    windows = sorted(gaps, key=_start_of)
    recent = [window for window in windows if window.end > now - RECENT]
    first = [_request((window,)) for window in reversed(recent)]
    older = windows[: len(windows) - len(recent)]
    grouped = _grouped(older, now, limits, longest or limits.longest_request)
    return first + [request for _, request in sorted(grouped, key=_urgency)]


def joined(windows: Iterable[Window], longest: int) -> list[Request]:
    """Return questions for windows, adjoining ones together, the oldest first."""
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
    """Return questions with the moment at which the source forgets their first values."""
    found: list[tuple[float, Request]] = []
    group: list[Window] = []
    step, forgotten = 0, _NEVER
    for window in windows:
        its_step, its_end = limits.step_at(window.start, now)
        width = HOUR if its_step > BUCKET else BUCKET
        if group and (
            its_step != step
            or window.start - window.start % width > group[-1].end
            or window.end - group[0].start > max(longest, width)
        ):
            found.append((forgotten, _request(tuple(group), step)))
            group = []
        if not group:
            step, forgotten = its_step, its_end
        group.append(window)
    if group:
        found.append((forgotten, _request(tuple(group), step)))
    return found


def _request(windows: tuple[Window, ...], step: int = 60) -> Request:
    """Return a question that covers windows; whole hours where the source has nothing finer."""
    start, end = windows[0].start, windows[-1].end
    if step > BUCKET:
        start, end = start - start % HOUR, end + -end % HOUR
    return Request(windows, start, end, step)


def _urgency(entry: tuple[float, Request]) -> tuple[float, int]:
    return entry[0], entry[1].start


def _start_of(window: Window) -> int:
    return window.start
