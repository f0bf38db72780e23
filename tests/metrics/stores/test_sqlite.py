"""The SQLite store: the contract, and what is special about a file."""

from __future__ import annotations

import pytest

from metrics.stores.sqlite import SqliteStore
from tests.metrics.stores.contract import StoreContract


@pytest.fixture
def new_store(tmp_path):
    made = []

    def new():
        made.append(SqliteStore(tmp_path / "metrics.sqlite3"))
        return made[-1]

    yield new
    for store in made:
        store.close()


class TestSqlite(StoreContract):
    @pytest.fixture
    def new_store(self, new_store):
        return new_store
