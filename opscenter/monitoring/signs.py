"""The signs of life that Ops Center's processes leave in Redis, and what they prove.

What is not proven is named: a sign that is missing, too old or in the future proves nothing, and a
sign that another process carries is not known while that one is silent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import cast

from django.conf import settings

from opscenter.core.ages import age_seconds
from opscenter.core.heartbeats import brief_redis_client, heartbeat_key, worker_names
from opscenter.core.write_checks import (
    DATABASE,
    HUB,
    METRIC_STORE,
    WriteCheck,
    is_recent,
    key_of,
    parse,
)

DATABASE_WRITES, METRIC_STORE_WRITES = "database writes", "metric store writes"
_PROVEN_BY_WORKER = {DATABASE_WRITES: DATABASE, METRIC_STORE_WRITES: METRIC_STORE}
_ANY_WORKER = "worker"
_SUPERVISOR = "up"  # asks each of several workers by its own queue
_HUB_RECORDS_SECONDS = 60.0
"""How old the hub's last record may be: it writes every 15 s when its tunnels last answered."""


@dataclass(frozen=True, slots=True)
class Signs:
    """What Redis holds. Times are Unix seconds; None where there is nothing."""

    heartbeats: Mapping[str, float | None]  # of worker, each of several workers, beat, hub, up
    writes: Mapping[str, WriteCheck | None]  # of database, metric store, hub


def heartbeat_names() -> tuple[str, ...]:
    """Return the processes that write a heartbeat."""
    return (*worker_names(), "beat", "hub")


def part_names() -> tuple[str, ...]:
    """Return the parts that :func:`unproven` may name."""
    return (*heartbeat_names(), *_PROVEN_BY_WORKER)


def read_signs() -> Signs:
    """Return the signs as they are now, by one request that takes at most a second.

    Raises:
        redis.exceptions.RedisError: if Redis does not answer.
    """
    names = tuple(dict.fromkeys((_ANY_WORKER, _SUPERVISOR, *heartbeat_names())))
    places = (*_PROVEN_BY_WORKER.values(), HUB)
    keys = [*map(heartbeat_key, names), *map(key_of, places)]
    values = cast("list[bytes | None]", brief_redis_client().mget(keys))
    return Signs(
        {name: _number(raw) for name, raw in zip(names, values, strict=False)},
        {name: parse(raw) for name, raw in zip(places, values[len(names) :], strict=True)},
    )


def unproven(signs: Signs, now: float) -> dict[str, str]:
    """Return the parts that are not proven to work at ``now``, each with the reason.

    Args:
        signs: what Redis holds.
        now: Unix time in seconds.
    """
    beats = signs.heartbeats
    found = _workers(beats, now)
    found["hub"] = _overdue(beats.get("hub"), now) or _failing_hub(signs.writes.get(HUB), now)
    worker = _overdue(beats.get(_ANY_WORKER), now)
    found |= _beat(beats, now)
    for part, place in _PROVEN_BY_WORKER.items():
        behind = worker or "the worker" in found["beat"]
        carrier = "the worker" if behind else "beat" if found["beat"] else ""
        found[part] = _unwritten(signs.writes.get(place), now, carrier)
    return {name: reason for name, reason in found.items() if reason}


def _workers(beats: Mapping[str, float | None], now: float) -> dict[str, str]:
    """Judge each worker; of several, one that is not asked by its supervisor is not to blame."""
    names = worker_names()
    found = {name: _overdue(beats.get(name), now) for name in names}
    if len(names) == 1 or _overdue(beats.get(_ANY_WORKER), now):
        return found
    if _is_lively(beats.get(_SUPERVISOR), now):
        return found
    return {name: reason and "not known without its supervisor" for name, reason in found.items()}


def _beat(beats: Mapping[str, float | None], now: float) -> dict[str, str]:
    """Judge beat, whose sign a worker writes: while that is late, beat's silence is not its own."""
    reason = _overdue(beats.get("beat"), now)
    if not reason or _is_lively(beats.get(_ANY_WORKER), now):
        return {"beat": reason}
    late = {} if len(worker_names()) > 1 else {_ANY_WORKER: _silence(beats.get(_ANY_WORKER), now)}
    return {**late, "beat": "not known without the worker"}


def _is_lively(at: float | None, now: float) -> bool:
    """Return whether who carries the signs of others is well enough for these to be blamed."""
    age = age_seconds(at, now)
    return age is not None and age <= _limit() / 2


def _overdue(at: float | None, now: float) -> str:
    age = age_seconds(at, now)
    return "" if age is not None and age <= _limit() else _silence(at, now)


def _silence(at: float | None, now: float) -> str:
    if at is None:
        return "no heartbeat yet"
    age = age_seconds(at, now)
    if age is None:
        return f"its last heartbeat is {at - now:.0f} s in the future: a clock was set back"
    return f"no heartbeat for {age:.0f} s"


def _failing_hub(check: WriteCheck | None, now: float) -> str:
    """Return why the hub's records are not stored; its heartbeat is fresh."""
    if check is None:
        return "does not say whether it can record what its tunnels do"
    if check.failing_since is not None:
        return f"cannot record what its tunnels do{_since(check, now)}"
    age = age_seconds(check.proven_at, now)
    recent = age is not None and age <= max(_HUB_RECORDS_SECONDS, _limit())
    return "" if recent else "has recorded nothing lately"


def _unwritten(check: WriteCheck | None, now: float, silent_carrier: str) -> str:
    """Return why it is not proven that a place takes writes; "" if it is."""
    if check is not None and check.failing_since is not None and is_recent(check.at, now):
        return f"takes no writes{_since(check, now)}"
    if check is not None and check.failing_since is None and is_recent(check.proven_at, now):
        return ""
    if silent_carrier:
        return f"not known without {silent_carrier}"
    age = None if check is None else age_seconds(check.proven_at, now)
    return "no write is proven yet" if age is None else f"no write is proven for {age:.0f} s"


def _since(check: WriteCheck, now: float) -> str:
    if check.failing_since is None:
        return ""
    at = datetime.fromtimestamp(check.failing_since, UTC)
    form = "%H:%M:%S" if now - check.failing_since < 43_200 else "%Y-%m-%d %H:%M:%S"
    return f" since {at:{form}} UTC: {check.error}"


def _limit() -> float:
    return float(settings.HEARTBEAT_LIMIT_SECONDS)


def _number(raw: bytes | None) -> float | None:
    return None if raw is None else float(raw)
