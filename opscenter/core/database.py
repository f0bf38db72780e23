"""What a database means that refuses: a full disk, a lock, a server that is away, other tables.

Reading must work on a database that takes no writes. Where a request would note something in
passing, :func:`best_effort` lets it go on without; where the write is the point, the answer is 503
with :func:`explain_trouble` in it, never 500.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import time
from collections.abc import Callable, Iterator

from django.db import (
    DatabaseError,
    InterfaceError,
    OperationalError,
    connection,
    connections,
    transaction,
)

logger = logging.getLogger(__name__)

BEST_EFFORT_SECONDS = 0.2
"""How long a note in passing waits for a lock."""
WEB_WAIT_SECONDS = 5
"""How long a request waits for a lock; a person waits for its answer."""
WEB_STATEMENT_SECONDS = 60
_LOG_SECONDS = 60

_NO_WRITES = (
    "Ops Center's database takes no changes at the moment: {}. What is already stored can be read;"
    " what must be written down, such as a sign-in, a change or a download, has to wait."
)
_AWAY = "Ops Center's database does not answer as it should: {}."

_FOREIGN = (
    "it lacks a table or a column of this version, so it is empty, another one, or not migrated"
)

_SQLITE = {
    sqlite3.SQLITE_BUSY: (_NO_WRITES, "it is locked by another process"),
    sqlite3.SQLITE_LOCKED: (_NO_WRITES, "it is locked by another process"),
    sqlite3.SQLITE_READONLY: (_NO_WRITES, "it is read-only"),
    sqlite3.SQLITE_FULL: (_NO_WRITES, "its disk is full"),
    sqlite3.SQLITE_IOERR: (_AWAY, "its disk reports an error"),
    sqlite3.SQLITE_CANTOPEN: (_AWAY, "its file cannot be opened"),
    sqlite3.SQLITE_CORRUPT: (_AWAY, "its file is damaged"),
    sqlite3.SQLITE_NOTADB: (_AWAY, "its file is none of a database"),
}
# SQLite has no number of its own for this.
_SQLITE_FOREIGN = ("no such table: ", "no such column: ", "has no column named ")
# By SQLSTATE, else by its class (PostgreSQL, appendix A); "" is a server that was not reached.
_POSTGRESQL = {
    "25006": (_NO_WRITES, "it is read-only"),
    "55P03": (_NO_WRITES, "it is locked by another process"),
    "40P01": (_NO_WRITES, "it is locked by another process"),
    "53100": (_NO_WRITES, "its disk is full"),
    "42P01": (_AWAY, _FOREIGN),
    "42703": (_AWAY, _FOREIGN),
    "3F000": (_AWAY, _FOREIGN),
    "57014": (_AWAY, "it took too long"),
    "08": (_AWAY, "the connection was lost"),
    "53": (_AWAY, "it has no connection, memory or space left"),
    "57": (_AWAY, "it is being stopped or started"),
    "58": (_AWAY, "its machine reports an error"),
    "XX001": (_AWAY, "its data is damaged"),
    "XX002": (_AWAY, "its data is damaged"),
    "": (_AWAY, "it cannot be reached"),
}
_logged: dict[str, float] = {}


def explain_trouble(error: BaseException | None) -> str:
    """Return :func:`database_trouble` for an answer, and log the error at most once a minute."""
    trouble = database_trouble(error)
    if trouble:
        _log_sometimes("a request is answered with 503, as the database refuses: %s", error)
    return trouble


def database_trouble(error: BaseException | None) -> str:
    """Return in words what is wrong with the database; "" if the error is of another kind.

    A statement that is wrong is a bug and of another kind, though SQLite raises the same class
    for it. One that names a table or a column that is not there is taken for right: the database
    was replaced, as by an empty file or an old backup, under a centre that runs.
    """
    if not isinstance(error, DatabaseError | InterfaceError):
        return ""
    cause = error.__cause__
    if isinstance(cause, sqlite3.Error):
        code = getattr(cause, "sqlite_errorcode", None) or 0
        if code == sqlite3.SQLITE_ERROR and any(word in str(cause) for word in _SQLITE_FOREIGN):
            return _AWAY.format(_FOREIGN)
        sentence, reason = _SQLITE.get(code & 0xFF, ("", ""))
        return sentence.format(reason)
    state = getattr(cause, "sqlstate", "no server's")
    if state is None:  # psycopg's own, without an answer of the server
        state = "" if isinstance(error, OperationalError | InterfaceError) else "none"
    sentence, reason = _POSTGRESQL.get(state) or _POSTGRESQL.get(state[:2], ("", ""))
    return sentence.format(reason)


def best_effort(what: str, write: Callable[[], object]) -> bool:
    """Write in a transaction that hardly waits; a write that the database refuses is left out.

    A refusal is logged at most once a minute for each ``what``, which reads as in "``what`` is
    left out". Errors of other kinds are raised.

    Returns:
        Whether it was written.
    """
    try:
        with _hardly_waiting(), transaction.atomic():
            write()
    except (DatabaseError, InterfaceError) as exc:
        if not database_trouble(exc):
            raise
        log_left_out(what, exc)
        return False
    return True


def log_left_out(what: str, error: Exception) -> None:
    """Log, at most once a minute for each ``what``, that something was not written."""
    _log_sometimes(what + " is left out for now: %s", error)


def limit_waits() -> None:
    """Bound how long this process's connections wait for a lock, and PostgreSQL's statements.

    For the web process: other processes have nobody waiting, and may take longer. Connections that
    are open already keep their limits.
    """
    options = connections.settings["default"].setdefault("OPTIONS", {})
    if connection.vendor == "sqlite":
        options["timeout"] = WEB_WAIT_SECONDS
        return
    limits = {"lock_timeout": WEB_WAIT_SECONDS, "statement_timeout": WEB_STATEMENT_SECONDS}
    given = [f"-c {name}={seconds * 1000}" for name, seconds in limits.items()]
    options["options"] = " ".join([options.get("options", ""), *given]).strip()


def _log_sometimes(line: str, error: BaseException | None) -> None:
    now = time.monotonic()
    if now - _logged.get(line, float("-inf")) >= _LOG_SECONDS:
        _logged[line] = now
        logger.warning(line, error)


@contextlib.contextmanager
def _hardly_waiting() -> Iterator[None]:
    """Let statements within wait only briefly for a lock."""
    milliseconds = int(BEST_EFFORT_SECONDS * 1000)
    with connection.cursor() as cursor:
        if connection.vendor != "sqlite":
            cursor.execute("SELECT current_setting('lock_timeout')")
            former = cursor.fetchone()[0]
            cursor.execute(f"SET lock_timeout = {milliseconds}")
        else:
            cursor.execute("PRAGMA busy_timeout")
            former = cursor.fetchone()[0]
            cursor.execute(f"PRAGMA busy_timeout = {milliseconds}")
    try:
        yield
    finally:
        _restore(former)


def _restore(former: int | str) -> None:
    """Set the connection's former limit again; one that was lost has none to set."""
    with contextlib.suppress(DatabaseError, InterfaceError), connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute(f"PRAGMA busy_timeout = {int(former)}")
        else:
            cursor.execute("SELECT set_config('lock_timeout', %s, false)", [former])
