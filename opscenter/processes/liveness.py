"""Which supervised process hangs: it exists, but its sign of life is too old.

Pure: signs and ``now`` are arguments (Unix seconds), so that the rules are tested by value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from opscenter.core.ages import FUTURE_SECONDS

# A check that comes this much later than planned means that we ourselves stood still (suspended
# machine, stopped terminal, clock set): everything gets a fresh start. Longer than a check takes
# while Redis does not answer.
LATE_SECONDS = 15.0


@dataclass(frozen=True)
class Sign:
    """What is known about one running process."""

    started_at: float
    seen_at: float | None  # last sign of life; None if there never was one


@dataclass
class Liveness:
    """Judges signs of life, check by check.

    Of signs that go through other processes, only the first silent process is blamed: worker, beat
    and hub write to Redis, so they are not judged while Redis is away; the worker writes beat's
    sign, so beat is judged only after the worker has been healthy for long enough.
    """

    limit_seconds: float
    first_sign_seconds: float  # how long a start may take before its first sign of life
    check_seconds: float
    through: Mapping[str, str] = field(default_factory=dict)  # name -> name that carries its sign
    _last_check: float | None = None
    _healthy_since: dict[str, float] = field(default_factory=dict)
    _fresh_start: float = 0.0

    def hung(self, signs: Mapping[str, Sign], now: float) -> list[str]:
        """Return the names that have been silent for longer than the limit, carriers first.

        Every carrier should be in ``signs``, including one that runs elsewhere.
        """
        if self._last_check is None or not (
            0 <= now - self._last_check <= self.check_seconds + LATE_SECONDS
        ):
            self._fresh_start = now
            self._healthy_since.clear()
        self._last_check = now
        return [name for name in sorted(signs, key=self._depth) if self._is_hung(name, signs, now)]

    def _is_hung(self, name: str, signs: Mapping[str, Sign], now: float) -> bool:
        sign = signs[name]
        # What lies in the future was recorded before a clock was set back: it proves nothing.
        started_at = sign.started_at if _is_past(sign.started_at, now) else self._fresh_start
        since = max(started_at, self._fresh_start)
        carrier = self.through.get(name)
        if carrier in signs:
            if carrier not in self._healthy_since:
                self._healthy_since.pop(name, None)
                return False
            since = max(since, self._healthy_since[carrier])
        seen_at = sign.seen_at if sign.seen_at is not None and _is_past(sign.seen_at, now) else 0.0
        # Healthy is stricter than not hung: a carrier that is late already excuses the others.
        if seen_at >= started_at and now - seen_at <= self.limit_seconds / 2:
            self._healthy_since.setdefault(name, now)
        else:
            self._healthy_since.pop(name, None)
        limit = self.limit_seconds
        if seen_at < started_at:
            limit = max(limit, self.first_sign_seconds)
        return now - max(since, seen_at) > limit

    def _depth(self, name: str) -> int:
        depth = 0
        while name in self.through and depth < len(self.through):
            name = self.through[name]
            depth += 1
        return depth


def _is_past(moment: float, now: float) -> bool:
    return moment <= now + FUTURE_SECONDS
