"""The stores of rows, behind one interface (:class:`metrics.stores.base.MetricStore`)."""

from __future__ import annotations

import atexit
import threading
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

from metrics.stores.base import MetricStore
from metrics.stores.errors import StoreError
from metrics.stores.sqlite.shards import ShardedStore
from metrics.stores.sqlite.store import SqliteStore
from opscenter.core.shards import check_shards, shard_paths

__all__ = ["StoreError", "close_stores", "get_store"]

_lock = threading.Lock()
_stores: dict[tuple[str, ...], MetricStore] = {}


def get_store(name: str | None = None) -> MetricStore:
    """Return this process's metric store; created on the first call.

    Tests that set another ``METRICS_SQLITE_PATH`` get another store.

    Args:
        name: "sqlite" or "influxdb"; None for the one of the settings.

    Raises:
        ImproperlyConfigured: its text names the variable that is missing or wrong.
    """
    from django.conf import settings

    name = str(settings.METRICS_STORE) if name is None else name
    if name == "sqlite":
        path, shards = Path(settings.METRICS_SQLITE_PATH), int(settings.METRICS_SHARDS)
        identity: tuple[str, ...] = (name, str(path), str(shards))
    elif name == "influxdb":
        identity = (name, *_influxdb_settings())
    else:
        msg = f"METRICS_STORE={name!r} is not one of sqlite, influxdb"
        raise ImproperlyConfigured(msg)
    with _lock:
        if identity not in _stores:
            _stores[identity] = _make(*identity)
        return _stores[identity]


def close_stores() -> None:
    """Close the stores that this process has open; :func:`get_store` opens them again."""
    with _lock:
        for store in _stores.values():
            store.close()
        _stores.clear()


# Before the interpreter tears down modules: the InfluxDB client's own clean-up would fail then.
atexit.register(close_stores)


def _make(name: str, *where: str) -> MetricStore:
    if name == "sqlite":
        path, shards = Path(where[0]), int(where[1])
        check_shards(path, shards)
        return SqliteStore(path) if shards == 1 else ShardedStore(shard_paths(path, shards))
    # Imported only when used: the client library takes half a second to import.
    from metrics.stores.influxdb.client import Server
    from metrics.stores.influxdb.retention import retention_seconds
    from metrics.stores.influxdb.store import InfluxStore

    url, org, token, prefix = where
    return InfluxStore(Server(url, org, token), retention_seconds, prefix=prefix)


def _influxdb_settings() -> tuple[str, str, str, str]:
    """Return address, organisation, token and prefix.

    Raises:
        ImproperlyConfigured: its text names the variable that is missing.
    """
    from django.conf import settings

    needed = {name: getattr(settings, name) for name in ("INFLUXDB_URL", "INFLUXDB_ORG")}
    needed["INFLUXDB_TOKEN"] = settings.INFLUXDB_TOKEN
    for name, value in needed.items():
        if not value:
            msg = f"{name} is not set, and the metric store influxdb needs it"
            raise ImproperlyConfigured(msg)
    url, org, token = needed.values()
    return url, org, token, settings.INFLUXDB_BUCKET_PREFIX
