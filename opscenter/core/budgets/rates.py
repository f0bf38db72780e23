"""How many events of a kind each holder may cause within a time.

All processes count in Redis: one hash for each window, so that what is counted is bounded and goes
away by itself. A process counts what it sees in memory too: a Redis that was emptied or is away
does not make it forget, and while Redis is away each process allows its share. A clock of the
centre that jumps starts a new window.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from functools import cache
from hashlib import sha256

from django.conf import settings
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from opscenter.core.budgets.refusals import BudgetError, count_refusal, register
from opscenter.core.budgets.windows import Count, Windows, position

logger = logging.getLogger(__name__)

MAX_HOLDERS = 100_000
"""Holders that one window counts; further ones are refused until the next window."""
_PREFIX = "opscenter:rate:"
_LONGEST_KEY = 80  # characters
_REDIS_SECONDS = 0.5  # how long a request waits for a Redis that hangs
_RETRY_SECONDS = 5.0  # how long it is then left alone

# Counts an event unless that is too much. KEYS: this window's hash, the former one's.
# ARGV: holder, limit, cost, part of the former window that counts, holders, seconds to keep.
# Returns {1 if counted, 0 if it is too much, -1 if there are too many holders; before; current}.
_TAKE = """
local current = tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or 0)
local before = tonumber(redis.call('HGET', KEYS[2], ARGV[1]) or 0)
local cost = tonumber(ARGV[3])
if before * tonumber(ARGV[4]) + current + cost > tonumber(ARGV[2]) then
  return {0, before, current}
end
if cost == 0 then
  return {1, before, current}
end
if current == 0 and redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[5]) then
  return {-1, before, current}
end
current = redis.call('HINCRBY', KEYS[1], ARGV[1], cost)
redis.call('EXPIRE', KEYS[1], ARGV[6])
return {1, before, current}
"""
# Takes back. KEYS: this window's hash. ARGV: holder, cost. Never below 0.
_GIVE_BACK = """
if redis.call('HINCRBY', KEYS[1], ARGV[1], -tonumber(ARGV[2])) <= 0 then
  redis.call('HDEL', KEYS[1], ARGV[1])
end
"""


class Rate:
    """At most ``limit`` events of one holder in any ``seconds``. Safe to use from any thread.

    Args:
        name: name of the budget, a short word for ``/metrics``.
        what: what is counted, as a plural noun for people ("enrolments").
        by: what a holder is, in one word of ours: "user", "token", "address", "account", "all".
        limit: how many events.
        seconds: in which time.
        processes: how many processes allow their part each while Redis is away.
        max_holders: how many holders are counted; a further one is refused until the next window.
        clock: returns the current Unix time; tests set it.
    """

    def __init__(
        self,
        name: str,
        what: str,
        *,
        by: str,
        limit: int,
        seconds: int,
        processes: int = 1,
        max_holders: int = MAX_HOLDERS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.name = name
        self.what = what
        register(self)
        self.by = by
        self.limit = limit
        self.seconds = seconds
        self._share = max(1, limit // processes)
        self._max_holders = max_holders
        self.clock = clock
        self._lock = threading.Lock()
        self._memory = Windows(max_holders)
        self._redis_away_until = 0.0

    def spend(self, holder: object, cost: int = 1) -> int:
        """Count an event of a holder; return how many more are allowed now.

        Args:
            holder: whoever causes it; its text is the key. None is not limited.
            cost: for how many events this one counts, 1 to ``limit``.

        Raises:
            BudgetError: the holder has used up its budget, or too many holders are counted.
        """
        if holder is None:
            return self.limit
        count, limit = self._take(_text(holder), self.limit, self._share, cost)
        if count.outcome != "counted":
            raise self._refusal(count, limit, cost)
        return int(limit - count.used)

    def check(self, holder: object) -> None:
        """Raise if one more event would be refused; count nothing.

        Raises:
            BudgetError: the holder has used up its budget.
        """
        if holder is None:
            return
        count, limit = self._take(_text(holder), self.limit - 1, self._share - 1, 0)
        if count.outcome != "counted":
            raise self._refusal(count, limit + 1, 1)

    def refund(self, holder: object, cost: int = 1) -> None:
        """Take back events that turned out not to count, such as a password that was right.

        Only of the present window: those of the former one fade by themselves.
        """
        if holder is None:
            return
        number, _ = position(self.clock(), self.seconds)
        with self._lock:
            self._memory.add(_text(holder), number, -cost)
        self._give_back(_text(holder), number, cost)

    def forget(self) -> None:
        """Forget what this process has counted, for tests: nothing else may."""
        with self._lock:
            self._memory = Windows(self._max_holders)
            self._redis_away_until = 0.0

    def _take(self, holder: str, limit: int, share: int, cost: int) -> tuple[Count, int]:
        """Count in Redis and in memory; return what was decided, and by which limit."""
        number, passed = position(self.clock(), self.seconds)
        shared = self._take_shared(holder, number, passed, limit, cost)
        if shared is not None and shared.outcome != "counted":
            return shared, limit
        bound = share if shared is None else limit
        with self._lock:
            own = self._memory.take(holder, number, passed, limit=bound, cost=cost)
        if shared is None:
            return own, bound
        if own.outcome != "counted":  # Redis has forgotten what we know
            self._give_back(holder, number, cost)
            return own, bound
        return max(own, shared, key=lambda count: count.used), bound

    def _take_shared(
        self, holder: str, number: int, passed: float, limit: int, cost: int
    ) -> Count | None:
        """Count an event in Redis; None if Redis is away."""
        if time.monotonic() < self._redis_away_until:
            return None
        keys: list[str] = [self._key(number), self._key(number - 1)]
        args: list[str | float] = [
            holder,
            limit,
            cost,
            1.0 - passed,
            self._max_holders,
            2 * self.seconds,
        ]
        try:
            answer = _client(settings.REDIS_URL).eval(_TAKE, len(keys), *keys, *args)
        except RedisError as exc:
            self._redis_failed(exc)
            return None
        result, before, current = (int(part) for part in answer)
        outcome = {1: "counted", 0: "refused", -1: "full"}[result]
        return Count(outcome, before, current, passed)  # type: ignore[arg-type]

    def _give_back(self, holder: str, number: int, cost: int) -> None:
        if not cost or time.monotonic() < self._redis_away_until:
            return
        try:
            _client(settings.REDIS_URL).eval(_GIVE_BACK, 1, self._key(number), holder, cost)
        except RedisError as exc:
            self._redis_failed(exc)

    def _redis_failed(self, exc: RedisError) -> None:
        """Leave Redis alone for a while: a request must not wait for it again and again."""
        self._redis_away_until = time.monotonic() + _RETRY_SECONDS
        logger.warning("%s are counted in this process only: %s", self.what, exc)

    def _key(self, number: int) -> str:
        return f"{_PREFIX}{self.name}:{self.seconds}:{number}"

    def _refusal(self, count: Count, limit: int, cost: int) -> BudgetError:
        """Count a refusal, and return the error that says so."""
        if count.outcome == "full":
            count_refusal(self.name, "all")
            wait = self.seconds * (1.0 - count.passed)
            whose = "all"
            msg = f"too many {self.what} from too many sides at once"
        else:
            count_refusal(self.name, self.by)
            wait = count.wait_seconds(limit, cost, self.seconds)
            whose = self.by
            in_all = "in all" if self.by == "all" else f"for one {self.by}"
            msg = f"too many {self.what}: at most {limit} in {_span(self.seconds)} {in_all}"
        error = BudgetError(msg, budget=self.name, by=whose, limit=limit, retry_after=wait)
        error.args = (f"{msg}; try again in {_span(error.retry_after)}",)
        return error


def _text(holder: object) -> str:
    """Return the key of a holder; what somebody else made long is cut to its checksum."""
    text = str(holder)
    return text if len(text) <= _LONGEST_KEY else sha256(text.encode(errors="replace")).hexdigest()


def _span(seconds: int) -> str:
    """Return a time for people: the largest unit that it is a whole number of."""
    for size, word in ((86_400, "day"), (3600, "hour"), (60, "minute")):
        if seconds % size == 0:
            number = seconds // size
            return f"{number} {word}" if number == 1 else f"{number} {word}s"
    return f"{seconds} s"


@cache
def _client(url: str) -> Redis:
    """Return this process's client, which tries once and does not wait for long."""
    return Redis.from_url(
        url,
        socket_timeout=_REDIS_SECONDS,
        socket_connect_timeout=_REDIS_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )
