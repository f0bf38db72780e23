"""Where rows are kept, behind one interface."""

from __future__ import annotations

import threading
from pathlib import Path

from metrics.stores.base import MetricStore
from metrics.stores.sqlite import SqliteStore

_lock = threading.Lock()
_stores: dict[tuple[str, Path], MetricStore] = {}


def get_store() -> MetricStore:
    """Return this process's metric store, as the settings name it; made on the first call.

    Tests that point ``METRICS_SQLITE_PATH`` elsewhere get another store.
    """
    from django.conf import settings

    name = (str(settings.METRICS_STORE), Path(settings.METRICS_SQLITE_PATH))
    with _lock:
        if name not in _stores:
            _stores[name] = SqliteStore(name[1])
        return _stores[name]


def close_stores() -> None:
    """Close what this process has open; :func:`get_store` opens it again."""
    with _lock:
        for store in _stores.values():
            store.close()
        _stores.clear()
