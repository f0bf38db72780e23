"""The ``collector`` object of an agent's answer: what the agent knows about its own sight. Pure.

As untrusted as the rest of the answer: what is too long, too much or not of its type is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field

from metrics.series.source_answer import CollectorState
from metrics.series.windows import MINUTE
from metrics.sources.agent.json_values import clock, minute
from metrics.sources.validation import MAX_NAME, clean_text, json_list, json_object
from opscenter.core.errors import BadResponseError

MAX_ERROR = 1_000
MAX_PROBLEM = 500
MAX_PROBLEMS = 1_000
MAX_FAILED = 10_080  # a week of minutes, no two of which failed for the same reason
MAX_CLOCK_STEPS = 1_000


@dataclass(frozen=True, slots=True)
class CollectorPart:
    """What the object says; everything is empty if the answer has none."""

    state: CollectorState | None = None
    failed: Mapping[int, str] = field(default_factory=dict)
    clock_steps: Sequence[tuple[int, float, float]] = ()
    earlier: frozenset[int] = frozenset()


def parse_collector(raw: object, start: int, end: int, *, alive: Set[int]) -> CollectorPart:
    """Check the ``collector`` object of an answer.

    Args:
        raw: the object; None from an agent that sends none.
        start: start of the answer in Unix seconds.
        end: end of the answer in Unix seconds, exclusive.
        alive: minutes that have rows; rows count more than a word that nothing was seen.

    Raises:
        BadResponseError: names what is wrong and where.
    """
    if raw is None:
        return CollectorPart()
    told = json_object(raw, "collector")
    if type(told.get("ok")) is not bool:
        msg = "collector.ok: neither true nor false"
        raise BadResponseError(msg, problem="bad_value")
    last_at = told.get("last_at")
    state = CollectorState(
        ok=told["ok"],
        error=_sentence(told.get("error", ""), "collector.error", MAX_ERROR),
        last_at=None if last_at is None else clock(last_at, "collector.last_at"),
        problems=_problems(told.get("problems", {})),
    )
    failed = _failed(told.get("failed", []), start, end)
    return CollectorPart(
        state,
        {at: why for at, why in failed.items() if at not in alive},
        _clock_steps(told.get("clock_steps", [])),
        _earlier(told.get("earlier", []), start, end),
    )


def _problems(raw: object) -> dict[str, str]:
    problems = json_object(raw, "collector.problems")
    if len(problems) > MAX_PROBLEMS:
        msg = f"collector.problems: {len(problems)} entries; at most {MAX_PROBLEMS} are accepted"
        raise BadResponseError(msg, problem="bad_value")
    where = "collector.problems"
    return {
        clean_text(name, where, MAX_NAME): _sentence(text, where, MAX_PROBLEM)
        for name, text in problems.items()
    }


def _failed(raw: object, start: int, end: int) -> dict[int, str]:
    """Return minute -> error of ranges ``[start, end, error]``, which may not overlap."""
    failed: dict[int, str] = {}
    for entry in _entries(raw, "collector.failed", MAX_FAILED):
        since, until = (minute(entry[at], "collector.failed") for at in (0, 1))
        if not start <= since < until <= end or since in failed:
            msg = f"collector.failed: {since}..{until} is no range within the answer"
            raise BadResponseError(msg, problem="bad_value")
        error = _sentence(entry[2], "collector.failed", MAX_ERROR)
        failed.update(dict.fromkeys(range(since, until, MINUTE), error))
    return failed


def _earlier(raw: object, start: int, end: int) -> frozenset[int]:
    """Return the minutes of ranges ``[start, end]``."""
    where = "collector.earlier"
    found: set[int] = set()
    for entry in _entries(raw, where, MAX_FAILED, parts=2):
        since, until = (minute(entry[at], where) for at in (0, 1))
        if not start <= since < until <= end:
            msg = f"{where}: {since}..{until} is no range within the answer"
            raise BadResponseError(msg, problem="bad_value")
        found.update(range(since, until, MINUTE))
    return frozenset(found)


def _clock_steps(raw: object) -> list[tuple[int, float, float]]:
    where = "collector.clock_steps"
    return [
        (minute(entry[0], where), clock(entry[1], where), clock(entry[2], where))
        for entry in _entries(raw, where, MAX_CLOCK_STEPS)
    ]


def _entries(raw: object, where: str, most: int, *, parts: int = 3) -> list[list[object]]:
    """Return a list of lists of so many parts."""
    entries = json_list(raw, where)
    if len(entries) > most:
        msg = f"{where}: {len(entries)} entries; at most {most} are accepted"
        raise BadResponseError(msg, problem="bad_value")
    for entry in entries:
        if len(json_list(entry, where)) != parts:
            msg = f"{where}: an entry of {len(entry)} parts where {parts} are expected"
            raise BadResponseError(msg, problem="bad_value")
    return entries


def _sentence(value: object, where: str, longest: int) -> str:
    return clean_text("" if value is None else value, where, longest)
