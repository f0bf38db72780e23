"""What a budget says when it is full, and how often each did.

Each process counts its refusals in memory, and adds them to a hash in Redis with its heartbeat, so
that ``/metrics`` is the same whichever web process answers.
"""

from __future__ import annotations

import math
import re
import threading
from collections import Counter
from typing import Protocol

from redis import Redis

from opscenter.core.errors import OpsCenterError

_KEY = "opscenter:budgets:refused"
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")


class Budget(Protocol):
    """What every budget has: a name for programs, and for people what it counts."""

    name: str
    what: str


_lock = threading.Lock()
_refused: Counter[tuple[str, str]] = Counter()  # of this process, since the last flush
_budgets: dict[str, Budget] = {}


class BudgetError(OpsCenterError):
    """A budget is used up: come again later.

    Attributes:
        budget: name of the budget.
        by: whose share is used up: "user", "address", "cluster", ..., or "all".
        limit: the number that is allowed.
        retry_after: whole seconds until it is worth trying again, at least 1.
    """

    code = "throttled"
    http_status = 429

    def __init__(
        self, message: str, *, budget: str, by: str, limit: int, retry_after: float
    ) -> None:
        super().__init__(message)
        self.budget = budget
        self.by = by
        self.limit = limit
        self.retry_after = max(1, math.ceil(retry_after))

    def headers(self) -> dict[str, str]:
        """Return the headers of the answer: ``Retry-After`` and ``RateLimit-*``.

        ``RateLimit-Limit``, ``-Remaining`` and ``-Reset`` are those of
        draft-ietf-httpapi-ratelimit-headers-07, which clients know.
        """
        return {
            "Retry-After": str(self.retry_after),
            "RateLimit-Limit": str(self.limit),
            "RateLimit-Remaining": "0",
            "RateLimit-Reset": str(self.retry_after),
        }


def register(budget: Budget) -> None:
    """Make a budget known by its name: a short word of lower-case letters, for ``/metrics``.

    Raises:
        ValueError: if the name is no such word, or another budget has it.
    """
    if not _NAME.fullmatch(budget.name):
        msg = f"{budget.name!r} is no name of a budget: use lower-case letters, digits and _"
        raise ValueError(msg)
    former = _budgets.get(budget.name)
    if former is not None and former.what != budget.what:
        msg = f"two budgets are named {budget.name!r}"
        raise ValueError(msg)
    _budgets[budget.name] = budget


def all_budgets() -> dict[str, Budget]:
    """Return the budgets that this process has defined, by name."""
    return dict(_budgets)


def count_refusal(budget: str, by: str) -> None:
    """Count something that was refused.

    Args:
        budget: name of the budget.
        by: a word of ours for whose share was used up, never a name or an address.
    """
    with _lock:
        _refused[budget, by] += 1


def flush_refusals(redis: Redis) -> None:
    """Add what this process has counted to the sums in Redis.

    What cannot be added stays here for the next time, and is then perhaps counted twice: Redis may
    have taken it before its answer was lost.

    Raises:
        redis.exceptions.RedisError: if Redis is away.
    """
    with _lock:
        counted = dict(_refused)
    if not counted:
        return
    pipeline = redis.pipeline(transaction=True)
    for (budget, by), number in counted.items():
        pipeline.hincrby(_KEY, f"{budget} {by}", number)
    pipeline.execute()
    with _lock:
        _refused.subtract(counted)
        for key in [key for key, number in _refused.items() if number <= 0]:
            del _refused[key]


def read_refusals(redis: Redis) -> dict[tuple[str, str], int]:
    """Return how often each budget refused: (budget, whose share) -> number, of all processes.

    Raises:
        redis.exceptions.RedisError: if Redis is away.
    """
    found: dict[tuple[str, str], int] = {}
    for key, number in redis.hgetall(_KEY).items():
        text = key.decode() if isinstance(key, bytes) else key
        budget, _, by = text.partition(" ")
        found[budget, by] = int(number)
    return found
