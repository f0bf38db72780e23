"""The proof that a file of the store takes writes: a row, written and read again."""

from __future__ import annotations

from metrics.stores.errors import StoreError
from metrics.stores.sqlite.connection import Connections
from opscenter.core.disk import prove_in_place, prove_space

_KEY = "proof"
_QUERY = f"SELECT value FROM meta WHERE key = '{_KEY}'"  # noqa: S608 - our own word


def prove_writable(connections: Connections, now: int, seconds: float) -> None:
    """Write the time into the file in a transaction as pulls use it, and read it.

    Waits in line behind this process's writers; where one of them commits meanwhile, that is the
    proof.

    Args:
        connections: the file's.
        now: Unix time in seconds.
        seconds: how long to wait, each, for our other threads and for other processes.

    Raises:
        StoreError: the file takes no writes.
    """
    reader = connections.get()  # after a fork, this creates the child's lock
    before = connections.commits
    if not connections.write_lock.acquire(timeout=seconds):
        if connections.commits == before:
            msg = f"{connections.path}: no write was finished within {seconds:g} s"
            raise StoreError(msg) from TimeoutError()
        return
    try:
        with connections.translated():
            prove_space(connections.path.resolve().parent)
        with connections.transaction(busy_seconds=seconds) as connection:
            connection.execute(
                "INSERT INTO meta VALUES(?, ?)"
                " ON CONFLICT(key) DO UPDATE SET value = excluded.value",
                (_KEY, str(now)),
            )
    finally:
        connections.write_lock.release()
    with connections.translated():
        row = reader.execute(_QUERY).fetchone()
        if row is not None and int(row[0]) >= now:
            prove_in_place(connections.path, _QUERY, now)
            return
    raise StoreError(f"{connections.path}: it does not return what was written")
