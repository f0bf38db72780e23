"""What every metric store must do: a store's tests subclass :class:`StoreContract`.

The expected numbers come from :mod:`tests.metrics.stores.contract.model`, a store in plain
dictionaries that knows nothing of SQL and uses :mod:`metrics.series.rollups` alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from uuid import UUID, uuid4

import pytest

from metrics.stores.base import MetricStore
from tests.metrics.stores.contract.coarse import CoarseContract
from tests.metrics.stores.contract.housekeeping import HousekeepingContract
from tests.metrics.stores.contract.ledger import LedgerContract
from tests.metrics.stores.contract.minutes import MinutesContract
from tests.metrics.stores.contract.model import KEYS
from tests.metrics.stores.contract.reading import ReadingContract
from tests.metrics.stores.contract.rows import (
    CLUSTER,
    NODE,
    POD,
    STREAM,
    T0,
    cell,
    coarse,
    row,
    window,
)

__all__ = [
    "CLUSTER", "KEYS", "NODE", "POD", "STREAM", "T0", "StoreContract", "cell", "coarse", "row",
    "window",
]  # fmt: skip


class StoreContract(
    MinutesContract, ReadingContract, CoarseContract, LedgerContract, HousekeepingContract
):
    """Subclass it and give the fixtures ``store`` and ``new_store``."""

    @pytest.fixture
    def new_store(self) -> Iterator[Callable[[], MetricStore]]:
        raise NotImplementedError

    @pytest.fixture
    def store(self, new_store) -> MetricStore:
        return new_store()

    @pytest.fixture
    def cluster(self) -> UUID:
        return uuid4()
