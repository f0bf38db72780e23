"""The installation's id in a file of the SQLite store."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

from metrics.stores.errors import StoreError
from metrics.stores.identity import StorePlace
from metrics.stores.sqlite.connection import Connections, explain

_KEY = "installation"
_WAIT_SECONDS = 5


def place_of(connections: Connections, belongs: Callable[[UUID], bool]) -> StorePlace:
    """Return a file as it is on disk now, by a connection of its own; it is not made.

    Of one that is not the file that this process has open, only that is said.

    Raises:
        StoreError: it cannot be read.
    """
    path = connections.path
    if connections.is_replaced():
        # Not opened: what is in the log of the former file would be written into the new one.
        return StorePlace(str(path), "", frozenset(), belongs, replaced=True)
    try:
        identity, clusters = _read(path) if path.exists() else ("", frozenset())
    except (sqlite3.Error, OSError) as exc:
        raise StoreError(f"{path}: {explain(exc)}") from exc
    return StorePlace(str(path), identity, clusters, belongs)


def adopt(connections: Connections, identity: str) -> None:
    """Write the id into a file that has none; the file is made if it is missing.

    Raises:
        StoreError: it cannot be written.
    """
    connections.get()
    with connections.transaction() as connection:
        connection.execute(
            "INSERT INTO meta VALUES(?, ?) ON CONFLICT(key) DO NOTHING", (_KEY, identity)
        )


def _read(path: Path) -> tuple[str, frozenset[UUID]]:
    # Not the pooled connection, which reads on in a file that was renamed or deleted.
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=_WAIT_SECONDS
    )
    try:
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}
        if not {"meta", "cluster"} <= tables:
            return "", frozenset()
        row = connection.execute("SELECT value FROM meta WHERE key = ?", (_KEY,)).fetchone()
        found = connection.execute("SELECT uuid FROM cluster WHERE uuid IS NOT NULL")
        return (row[0] if row else "", frozenset(UUID(text) for (text,) in found))
    finally:
        connection.close()
