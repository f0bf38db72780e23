"""Single requests to a Prometheus, each parsed in the caller's slot."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from metrics.series.windows import DAY, HOUR, MINUTE
from metrics.sources.base import HttpClient
from metrics.sources.parse_concurrency import ParseSlot
from metrics.sources.prometheus.batches import MAX_SERIES
from metrics.sources.prometheus.node_names import Facts
from metrics.sources.prometheus.queries import TAG, facts_expr, joined, newest_expr, oldest_expr
from metrics.sources.prometheus.responses import read_vector, refuse
from metrics.sources.validation import MAX_MOMENT
from opscenter.core.errors import BadResponseError

logger = logging.getLogger(__name__)

MAX_FACTS = 3 * MAX_SERIES
_REACHES = ((8 * DAY, HOUR), (400 * DAY, DAY))


class PrometheusApi:
    """Sends single requests to a server; acquires the parse slot for each answer.

    Args:
        client: the client that reaches the server.
        slot: the parse slot; released while waiting for an answer.

    """

    def __init__(self, client: HttpClient, slot: ParseSlot) -> None:
        self._client = client
        self._slot = slot

    async def clock(self) -> float:
        """Return the server's own time in Unix seconds.

        Raises:
            ClusterError: the server's answer is missing or refused.
        """
        # As a vector, because VictoriaMetrics has no scalars.
        match await self.vector("vector(time())"):
            case [(_, value)]:
                return _moment(value)
        return refuse("it does not give its time", "bad_value")

    async def facts(self, start: int, end: int) -> Facts:
        """Return the nodes, their addresses and the pods of a window.

        Raises:
            ClusterError: the server's answer is missing or refused.
        """
        facts = Facts()
        facts.learn(await self.vector(facts_expr(max(MINUTE, end - start)), end), TAG)
        return facts

    async def vector(
        self, expr: str, at: int | None = None
    ) -> list[tuple[Mapping[str, str], float]]:
        """Return an instant vector at Unix time ``at``; None for the server's present.

        Raises:
            ClusterError: the server's answer is missing or refused.
        """
        when = {} if at is None else {"time": str(at)}
        return read_vector(await self._ask("query", query=expr, **when), most=MAX_FACTS)

    async def matrix(
        self, numbers: Sequence[int], first: int, last: int, *, targets: str = ""
    ) -> Any:
        """Return the unchecked answer for some queries at each minute of ``first..last``.

        Also for ``targets``, the result of :func:`.queries.targets_expr`, if it is given.

        Raises:
            ClusterError: the server's answer is missing or refused.
        """
        return await self.ranged(joined(numbers, targets), first, last, MINUTE)

    async def ranged(self, expr: str, first: int, last: int, step: int) -> Any:
        """Return the unchecked answer for an expression at ``first..last``, ``step`` s apart.

        Raises:
            ClusterError: the server's answer is missing or refused.
        """
        return await self._ask(
            "query_range", query=expr, start=str(first), end=str(last), step=f"{step}s"
        )

    async def oldest(self, clock: float) -> int | None:
        """Return the start of the oldest minute that the server has; None if it has none.

        Searched hour by hour within the last 8 days, else day by day, then to the minute. Also None
        if the server has no such queries (before Prometheus 2.7) or refuses them as too large.

        Raises:
            ClusterError: the server's answer is missing or refused.
        """
        try:
            return await self._oldest(clock)
        except BadResponseError as exc:
            if exc.problem != "query_refused":
                raise
            logger.info("the oldest sample is not known: %s", exc)
            return None

    async def _oldest(self, clock: float) -> int | None:
        for reach, step in _REACHES:
            found = await self.vector(oldest_expr(reach, step))
            if not found:
                continue
            first = _moment(found[0][1])
            if step == HOUR and first < clock - reach + 2 * step:
                continue
            closer = await self.vector(oldest_expr(step, step // MINUTE), int(first))
            return int(min([first, *(_moment(value) for _, value in closer)])) // MINUTE * MINUTE
        return None

    async def newest(self) -> int | None:
        """Return the end of the newest minute that the server has; None if it has none.

        Raises:
            ClusterError: the server's answer is missing or refused.
        """
        for reach, step in _REACHES:
            found = await self.vector(newest_expr(reach, step))
            if found:
                return int(_moment(found[0][1])) // MINUTE * MINUTE
        return None

    async def _ask(self, what: str, **form: str) -> Any:
        self._slot.release()
        # Otherwise VictoriaMetrics hides the newest 30 s and caches answers that were not complete.
        form["nocache"] = "1"
        return await self._client.post_form_json(
            f"/api/v1/{what}", form, before_parsing=self._slot.acquire
        )


def _moment(value: float) -> float:
    """Return Unix seconds unchanged; NaN, times before 1970 and far ones are refused."""
    if not 0 <= value <= MAX_MOMENT:
        refuse(f"{value!r} where Unix seconds are expected", "bad_value")
    return value
