"""The part of a metric store that housekeeping uses: deletion, maintenance, checks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Protocol
from uuid import UUID

from metrics.series.catalog import Kind

NO_BOUNDS: Mapping[Kind, int] = MappingProxyType({})
"""For :meth:`MetricHousekeeping.forget`: no kind has its own bound."""


class MetricHousekeeping(Protocol):
    """Deletes data, and maintains the store itself."""

    def clusters(self) -> Iterable[UUID]:
        """Return the ids of all clusters that the store knows."""

    def expire(
        self, cluster: UUID, kind: Kind, tier: str, before: int, *, limit: int = 50_000
    ) -> int:
        """Delete buckets of a kind older than ``before``, oldest first; return how many.

        About ``limit`` of them: sealed buckets are deleted in whole chunks, so it can be somewhat
        more. Less than ``limit`` means that none is left.
        """

    def forget(self, cluster: UUID, before: int, by_kind: Mapping[Kind, int] = NO_BOUNDS) -> int:
        """Delete series, their last values and ledger windows that ended before ``before``.

        Call it after :meth:`expire`, with the bound of the longest tier. ``by_kind`` has other
        bounds for kinds whose series are kept for a shorter time.

        Returns:
            How many series were deleted.
        """

    def erase(self, cluster: UUID) -> None:
        """Delete everything of a cluster. Its id may be written again afterwards."""

    def maintain(self, now: int) -> str:
        """Do the housekeeping that is due, in short steps; return one line for the log.

        Called every ten minutes, by one process at a time.
        """

    def prove_writable(self, now: int, *, seconds: float) -> None:
        """Write a small row everywhere that data goes, and read it.

        Waits for at most about ``seconds`` where others write. ``now`` is the Unix time.

        Raises:
            StoreError: data would not be stored.
        """

    def warnings(self) -> list[str]:
        """Return problems that need attention although the store works; usually none.

        They name no cluster and no file, because anybody may read them.
        """

    def check(self) -> str:
        """Return "ok", or what is wrong with the store (integrity, reachability). May be slow."""

    def close(self) -> None:
        """Release what this process holds open; a later call opens it again."""
