"""Statements to an InfluxDB 1.x and their answers, one round trip at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from metrics.series.windows import MINUTE
from metrics.sources.base import HttpClient, Resolution
from metrics.sources.influxdb1.queries import RAW, ROLLUPS, Policy, edge, identifier
from metrics.sources.influxdb1.responses import (
    NOT_EXECUTED,
    RetentionPolicy,
    read_edge,
    read_policies,
    results_of,
)
from metrics.sources.parse_concurrency import ParseSlot
from opscenter.core.errors import BadResponseError


@dataclass(frozen=True, slots=True)
class StoredPolicy:
    """A policy that has data, and the Unix time at which its data begins."""

    policy: Policy
    begins: int


class InfluxApi:
    """Sends statements and splits the answers.

    Args:
        client: the client that reaches the server.
        database: the database's name.
        slot: the parse slot; released while waiting for an answer.
        budget_seconds: time in seconds after which :attr:`late` is true.
    """

    def __init__(
        self, client: HttpClient, database: str, slot: ParseSlot, budget_seconds: float
    ) -> None:
        self._client, self._slot = client, slot
        self.database = database
        self.policies: list[RetentionPolicy] = []
        self._clock = asyncio.get_running_loop().time
        self._stop_at = self._clock() + budget_seconds

    @property
    def late(self) -> bool:
        """Return whether the budget is used up."""
        return self._clock() >= self._stop_at

    def clock(self, now: float) -> float:
        """Return the server's time from its last answer; ``now`` if it had none."""
        reported = self._client.server_date
        return now if reported is None else reported

    async def ask(self, statements: Sequence[str]) -> list[object]:
        """Return each statement's part of the answer.

        Raises:
            ClusterError: the server's answer is missing or refused.
        """
        self._slot.release()
        form = {"db": self.database, "epoch": "s", "q": ";".join(statements)}
        raw = await self._client.post_form_json("/query", form, before_parsing=self._slot.acquire)
        try:
            return results_of(raw, len(statements))
        except BadResponseError as exc:
            position = _not_executed(raw)
            if position is None or len(statements) == 1 or position >= len(statements):
                raise
            # The server (1.6.7) reports this for a statement that failed with others after it; sent
            # alone, it returns the reason.
            await self.ask([statements[position]])
            raise exc from None

    async def stored_policies(self) -> list[StoredPolicy]:
        """Return the policies that have data, finest first, and where each begins."""
        results = await self.ask([f"SHOW RETENTION POLICIES ON {identifier(self.database)}"])
        self.policies = read_policies(results[0])
        names = {policy.name for policy in self.policies}
        policies = [RAW, *(policy for policy in ROLLUPS if policy.name in names)]
        edges = await self.ask([edge(self.database, one, newest=False) for one in policies])
        found = []
        for policy, result in zip(policies, edges, strict=True):
            begins = read_edge(result)
            if begins is not None:
                begins -= MINUTE if policy is RAW else 0
                found.append(StoredPolicy(policy, begins - begins % policy.step))
        return found


def _not_executed(raw: object) -> int | None:
    results = raw.get("results") if isinstance(raw, dict) else None
    for position, result in enumerate(results if isinstance(results, list) else ()):
        if isinstance(result, dict) and result.get("error") == NOT_EXECUTED:
            return position
    return None


def resolutions_of(policies: Sequence[RetentionPolicy]) -> Sequence[Resolution]:
    """Return the resolutions of a server's policies, finest first; () if none is the default."""
    reach = {policy.name: policy.seconds for policy in policies}
    raw = next((policy for policy in policies if policy.default), None)
    if raw is None:
        return ()
    rollups = (Resolution(p.step, reach[p.name], p.tier) for p in ROLLUPS if p.name in reach)
    return (Resolution(MINUTE, raw.seconds, "1m"), *rollups)
