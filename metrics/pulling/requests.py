"""In which order, and in which pieces, a source is asked for what is missing. Pure.

Gaps of the last hour come first, the newest of them first and each by itself: people look at
those. Then come the others, those first that the source will forget first; what it has in wider
values only is asked for in whole ones. Times are Unix seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from metrics.connections.source_limits import _NEVER, Terms
from metrics.series.windows import SLOT, Window

RECENT = 3600  # gaps younger than this are filled newest first
HOUR = 3600


@dataclass(frozen=True, slots=True)
class Request:
    """One question: the lines that it is about, the range to ask for, the step expected."""

    lines: tuple[Window, ...]
    start: int
    end: int
    step: int = 60

    def halves(self) -> list[Request]:
        """Return the same as two questions; itself if it is about one line."""
        middle = len(self.lines) // 2
        if not middle:
            return [self]
        parts = (self.lines[:middle], self.lines[middle:])
        return [_request(part, self.step) for part in parts]

    def rest(self, reached: int) -> Request | None:
        """Return what is left when an answer ended at ``reached``; None if no whole line is."""
        left = tuple(line for line in self.lines if line.start >= reached)
        return _request(left, self.step) if left else None


def plan(
    gaps: Iterable[Window], now: float, terms: Terms, longest: int | None = None
) -> list[Request]:
    """Return the questions for all gaps, in the order in which to ask them.

    Args:
        gaps: lines in state gap.
        now: the time.
        terms: of the source.
        longest: of one question, in seconds; the source's own limit if None.
    """
    lines = sorted(gaps, key=_start_of)
    recent = [line for line in lines if line.end > now - RECENT]
    first = [_request((line,)) for line in reversed(recent)]
    older = lines[: len(lines) - len(recent)]
    grouped = _grouped(older, now, terms, longest or terms.longest_request)
    return first + [request for _, request in sorted(grouped, key=_urgency)]


def joined(lines: Iterable[Window], longest: int) -> list[Request]:
    """Return questions for windows, adjoining ones together, the oldest first."""
    found: list[list[Window]] = []
    for line in sorted(lines, key=_start_of):
        last = found[-1] if found else None
        if last and line.start == last[-1].end and line.end - last[0].start <= longest:
            last.append(line)
        else:
            found.append([line])
    return [_request(tuple(group)) for group in found]


def _grouped(
    lines: Sequence[Window], now: float, terms: Terms, longest: int
) -> list[tuple[float, Request]]:
    """Return questions with the moment at which the source forgets their first values."""
    found: list[tuple[float, Request]] = []
    group: list[Window] = []
    step, forgotten = 0, _NEVER
    for line in lines:
        its_step, its_end = terms.step_at(line.start, now)
        width = HOUR if its_step > SLOT else SLOT
        if group and (
            its_step != step
            or line.start - line.start % width > group[-1].end
            or line.end - group[0].start > max(longest, width)
        ):
            found.append((forgotten, _request(tuple(group), step)))
            group = []
        if not group:
            step, forgotten = its_step, its_end
        group.append(line)
    if group:
        found.append((forgotten, _request(tuple(group), step)))
    return found


def _request(lines: tuple[Window, ...], step: int = 60) -> Request:
    """Return a question that covers lines; whole hours where the source has nothing finer."""
    start, end = lines[0].start, lines[-1].end
    if step > SLOT:
        start, end = start - start % HOUR, end + -end % HOUR
    return Request(lines, start, end, step)


def _urgency(entry: tuple[float, Request]) -> tuple[float, int]:
    return entry[0], entry[1].start


def _start_of(line: Window) -> int:
    return line.start
