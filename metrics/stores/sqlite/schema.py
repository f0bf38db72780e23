"""Tables of the SQLite metric store, and the statements that depend on the catalogue.

Layout (why: ``docs/decisions``)::

    pod_1m(ts, sid, n, cpu_mc, cpu_mc_l, cpu_mc_h, ...)     n = samples; low and high are NULL
                                                            where they equal the mean
    pod_10m, pod_1h(ts, sid, n, cpu_mc_n, cpu_mc_s, cpu_mc_l, cpu_mc_h, ...)   n = minutes
    pod_last(sid, ts, n, cpu_mc, ...)                       the newest minute

and the same for cluster, node and filesystem. ``sid`` is ``cluster << 24 | number``, so that the
series of one cluster are adjacent; the key is ``(ts, sid)`` because rows arrive by time.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from functools import cache
from typing import get_args

from metrics.series.catalog import FIELD_NAMES, TIERS, Kind

_ENDS = ("_n", "_s", "_l", "_h")

SCHEMA_VERSION = 3
APPLICATION_ID = 0x4F70734D  # "OpsM", which identifies the file, e.g. for `file`
SID_BITS = 24

KINDS: tuple[Kind, ...] = get_args(Kind)
KIND_NUMBERS: dict[Kind, int] = {kind: number for number, kind in enumerate(KINDS)}

_BASE = """
CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE cluster(
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    uuid TEXT UNIQUE,                     -- NULL: being erased
    next_number INTEGER NOT NULL DEFAULT 0,
    generation INTEGER NOT NULL DEFAULT 0, -- grows when series go: other processes forget theirs
    new_day INTEGER NOT NULL DEFAULT 0,
    new_count INTEGER NOT NULL DEFAULT 0);
CREATE TABLE series(
    sid INTEGER PRIMARY KEY,
    cluster INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    ns TEXT NOT NULL,
    name TEXT NOT NULL,
    node TEXT NOT NULL DEFAULT '',
    attrs TEXT NOT NULL DEFAULT '{}',
    first_ts INTEGER NOT NULL,
    UNIQUE(cluster, kind, ns, name));
CREATE TABLE watermark(
    cluster INTEGER NOT NULL, stream TEXT NOT NULL, watermark INTEGER, head INTEGER,
    PRIMARY KEY(cluster, stream)) WITHOUT ROWID;
CREATE TABLE pull_window(
    cluster INTEGER NOT NULL, stream TEXT NOT NULL, t0 INTEGER NOT NULL, t1 INTEGER NOT NULL,
    state TEXT NOT NULL, got INTEGER NOT NULL, expected INTEGER NOT NULL,
    attempts INTEGER NOT NULL, reason TEXT NOT NULL, detail TEXT NOT NULL, filled_at INTEGER,
    PRIMARY KEY(cluster, stream, t0)) WITHOUT ROWID;
CREATE INDEX pull_window_end ON pull_window(cluster, stream, t1);
CREATE INDEX pull_window_open ON pull_window(cluster, stream, t1) WHERE state = 'gap';
"""

_VERSION_2 = """
ALTER TABLE pull_window ADD COLUMN resolution INTEGER NOT NULL DEFAULT 60;
CREATE INDEX pull_window_odd ON pull_window(cluster, stream, t1) -- all but what came in time
    WHERE state <> 'done' OR filled_at IS NOT NULL OR reason <> '';
CREATE TABLE open_bucket(               -- wider buckets that reads make from their minutes
    cluster INTEGER NOT NULL, kind INTEGER NOT NULL, tier INTEGER NOT NULL, ts INTEGER NOT NULL,
    PRIMARY KEY(cluster, kind, tier, ts)) WITHOUT ROWID;
CREATE TABLE field(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);  -- what chunks call fields
CREATE TABLE chunk(
    id INTEGER PRIMARY KEY,
    cluster INTEGER NOT NULL, kind INTEGER NOT NULL, tier INTEGER NOT NULL,
    t0 INTEGER NOT NULL,                -- start of the chunk's span
    first_sid INTEGER NOT NULL, last_sid INTEGER NOT NULL,
    since INTEGER NOT NULL,             -- rows before it have expired
    damaged INTEGER NOT NULL DEFAULT 0);  -- found so; set aside
CREATE TABLE chunk_data(id INTEGER PRIMARY KEY, data BLOB NOT NULL);
CREATE UNIQUE INDEX chunk_place ON chunk(cluster, kind, tier, t0, first_sid, last_sid)
    WHERE NOT damaged;
CREATE INDEX chunk_damaged ON chunk(id) WHERE damaged;
"""

_VERSION_3 = """
ALTER TABLE chunk ADD COLUMN highs BLOB; -- the largest value of each field; NULL: not known
"""


def minute_columns(kind: Kind) -> list[str]:
    """Return the value columns of a kind's 1m table: mean, low, high of each field."""
    return [f"{name}{end}" for name in FIELD_NAMES[kind] for end in ("", "_l", "_h")]


def bucket_columns(kind: Kind) -> list[str]:
    """Return the value columns of a kind's wider tables: n, sum, low, high of each field."""
    return wide_columns(FIELD_NAMES[kind])


def wide_columns(fields: Iterable[str]) -> list[str]:
    """Return the columns of some fields in a wider table: n, sum, low, high of each."""
    return [f"{name}{end}" for name in fields for end in _ENDS]


def merged_minutes(fields: Iterable[str]) -> list[str]:
    """Return the aggregates that compute the columns of some fields from minutes."""
    return [
        part
        for name in fields
        for part in (
            f"count({name})",
            f"sum({name})",
            f"min(coalesce({name}_l, {name}))",
            f"max(coalesce({name}_h, {name}))",
        )
    ]


def tables() -> dict[str, list[str]]:
    """Return every catalogue table's name and its value columns."""
    found: dict[str, list[str]] = {}
    for kind in KINDS:
        for tier in TIERS:
            columns = minute_columns(kind) if tier == "1m" else bucket_columns(kind)
            found[f"{kind}_{tier}"] = columns
        found[f"{kind}_last"] = list(FIELD_NAMES[kind])
    return found


def catalogue_fingerprint() -> str:
    """Return a text that changes whenever a table needs a new column."""
    return ";".join(f"{table}:{','.join(columns)}" for table, columns in tables().items())


def is_current(connection: sqlite3.Connection) -> bool:
    """Return whether the file already has this version's tables and columns."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version != SCHEMA_VERSION:
        return False
    row = connection.execute("SELECT value FROM meta WHERE key = 'catalogue'").fetchone()
    return row is not None and row[0] == catalogue_fingerprint()


def migrate(connection: sqlite3.Connection) -> None:
    """Migrate the file to this version within the caller's transaction.

    Later versions add their step here. New fields of the catalogue need no step: their columns
    are added.

    Raises:
        sqlite3.DatabaseError: the file was written by a newer version or another program.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > SCHEMA_VERSION:
        msg = f"it has schema {version}, this version knows {SCHEMA_VERSION}: upgrade Ops Center"
        raise sqlite3.DatabaseError(msg)
    if version < 1:
        if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            msg = "it is a SQLite file of another program"
            raise sqlite3.DatabaseError(msg)
        _run(connection, _BASE)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    if version < 2:
        _run(connection, _VERSION_2)
    if version < 3:
        _run(connection, _VERSION_3)
    for table, columns in tables().items():
        _ensure_table(connection, table, columns)
    connection.execute(
        "INSERT INTO meta VALUES('catalogue', ?)"
        " ON CONFLICT(key) DO UPDATE SET value = excluded.value",
        (catalogue_fingerprint(),),
    )
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _run(connection: sqlite3.Connection, script: str) -> None:
    """Run statements within the caller's transaction, which ``executescript`` would commit."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            connection.execute(statement)
            statement = ""


def _ensure_table(connection: sqlite3.Connection, table: str, columns: list[str]) -> None:
    """Create the table, or add the columns that it lacks."""
    present = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
    if not present:
        body = ", ".join(f"{column} INTEGER" for column in columns)
        if table.endswith("_last"):
            head, tail = "sid INTEGER PRIMARY KEY, ts INTEGER NOT NULL", ""
        else:
            head = "ts INTEGER NOT NULL, sid INTEGER NOT NULL"
            tail = ", PRIMARY KEY(ts, sid)"
        rowid = "" if table.endswith("_last") else " WITHOUT ROWID"
        connection.execute(f"CREATE TABLE {table}({head}, n INTEGER NOT NULL, {body}{tail}){rowid}")
        return
    for column in columns:
        if column not in present:
            connection.execute(f"ALTER TABLE {table} ADD COLUMN {column} INTEGER")


@cache
def upsert_minute(kind: Kind) -> str:
    """Return the upsert of one minute; one over fewer samples changes nothing."""
    return _upsert(f"{kind}_1m", ["ts", "sid"], ["n", *minute_columns(kind)], "excluded.n >= n")


@cache
def insert_row(kind: Kind, tier: str) -> str:
    """Return the insert of a row of any tier where there is none."""
    columns = minute_columns(kind) if tier == "1m" else bucket_columns(kind)
    names = ["ts", "sid", "n", *columns]
    placeholders = ", ".join("?" * len(names))
    return f"INSERT INTO {kind}_{tier}({', '.join(names)}) VALUES({placeholders})"


@cache
def upsert_last(kind: Kind) -> str:
    """Return the upsert of one series' newest minute; an older one changes nothing."""
    guard = "excluded.ts > ts OR (excluded.ts = ts AND excluded.n >= n)"
    return _upsert(f"{kind}_last", ["sid"], ["ts", "n", *FIELD_NAMES[kind]], guard)


def _upsert(table: str, key: list[str], columns: list[str], guard: str) -> str:
    names = [*key, *columns]
    placeholders = ", ".join("?" * len(names))
    changes = ", ".join(f"{column} = excluded.{column}" for column in columns)
    return (
        f"INSERT INTO {table}({', '.join(names)}) VALUES({placeholders})"
        f" ON CONFLICT({', '.join(key)}) DO UPDATE SET {changes} WHERE {guard}"
    )


@cache
def upsert_bucket(kind: Kind, tier: str) -> str:
    """Return the upsert of one wider bucket; one over fewer minutes changes nothing."""
    return _upsert(f"{kind}_{tier}", ["ts", "sid"], ["n", *bucket_columns(kind)], "excluded.n >= n")


@cache
def upsert_coarse(kind: Kind, tier: str) -> str:
    """Return the upsert of a source's wider bucket; as :func:`upsert_bucket`.

    A field that the source's bucket lacks stays as it was computed from minutes.
    """
    changes = ", ".join(
        f"{name}{end} = CASE WHEN excluded.{name}_n IS NULL THEN {name}{end}"
        f" ELSE excluded.{name}{end} END"
        for name in FIELD_NAMES[kind]
        for end in _ENDS
    )
    names = ["ts", "sid", "n", *bucket_columns(kind)]
    return (
        f"INSERT INTO {kind}_{tier}({', '.join(names)}) VALUES({', '.join('?' * len(names))})"
        f" ON CONFLICT(ts, sid) DO UPDATE SET n = excluded.n, {changes} WHERE excluded.n >= n"
    )


@cache
def insert_unmeasured(kind: Kind) -> str:
    """Return the upsert of a row without values in the table of last values.

    For series with only wider buckets: n is -1, and a minute replaces the row unless it is older.
    """
    return (
        f"INSERT INTO {kind}_last(sid, ts, n) VALUES(?, ?, -1) ON CONFLICT(sid)"
        " DO UPDATE SET ts = excluded.ts WHERE n = -1 AND excluded.ts > ts"
    )


def _known(function: str, column: str, beside: str) -> str:
    """Return an aggregate that is NULL if the column is NULL in any row where ``beside`` is not."""
    return f"CASE WHEN count({column}) = count({beside}) THEN {function}({column}) END"


@cache
def roll_up(kind: Kind, tier: str) -> str:
    """Return the statement that recomputes one cluster's bucket from all of the finer tier.

    Parameters: bucket start, the starts of its finer buckets, lowest and highest sid. A bucket over
    more minutes than are stored now (some have expired) stays as it is.
    """
    if tier == "10m":
        source, parts = f"{kind}_1m", 10
        values = merged_minutes(FIELD_NAMES[kind])
        minutes = "count(*)"
    else:
        source, parts = f"{kind}_10m", 6
        values = [
            part
            for name in FIELD_NAMES[kind]
            for part in (
                f"sum({name}_n)",
                f"sum({name}_s)",
                _known("min", f"{name}_l", f"{name}_s"),
                _known("max", f"{name}_h", f"{name}_s"),
            )
        ]
        minutes = "sum(n)"
    columns = ["n", *bucket_columns(kind)]
    changes = ", ".join(f"{column} = excluded.{column}" for column in columns)
    target = f"{kind}_{tier}"
    return (
        f"INSERT INTO {target}(ts, sid, {', '.join(columns)})"  # noqa: S608 - our own names
        f" SELECT ?, sid, {minutes}, {', '.join(values)} FROM {source}"
        f" WHERE ts IN ({', '.join('?' * parts)}) AND sid BETWEEN ? AND ?"
        f" GROUP BY sid"
        f" ON CONFLICT(ts, sid) DO UPDATE SET {changes} WHERE excluded.n >= {target}.n"
    )
