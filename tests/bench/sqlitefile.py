"""What a SQLite metric file spends its bytes on."""

from __future__ import annotations

import sqlite3
from collections import Counter
from pathlib import Path

from metrics.series.catalog import TIERS


def live_bytes(path: Path) -> dict[str, int]:
    """Return the bytes in use by tier, and by "names" and "last"; free pages are left out.

    Free pages are those that the hot hours released: the next ones reuse them.
    Needs SQLite's ``dbstat``; without it everything is "whole".
    """
    connection = sqlite3.connect(path)
    try:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        try:
            tables = connection.execute(
                "SELECT name, sum(pgsize) FROM dbstat GROUP BY 1"
            ).fetchall()
        except sqlite3.OperationalError:
            pages = connection.execute("PRAGMA page_count").fetchone()[0]
            free = connection.execute("PRAGMA freelist_count").fetchone()[0]
            size = connection.execute("PRAGMA page_size").fetchone()[0]
            return {"whole": (pages - free) * size}
        found: Counter[str] = Counter()
        for name, size in tables:
            found[_use(name)] += size
        return dict(found)
    finally:
        connection.close()


def _use(table: str) -> str:
    """Return what a table or index is for."""
    for tier in TIERS:
        if table.endswith(f"_{tier}"):
            return tier
    if table.endswith("_last"):
        return "last"
    return "chunks" if "chunk" in table else "names"


def chunk_bytes(path: Path) -> dict[str, int]:
    """Return what sealed chunks take in the file by tier, their share of index and pages included.

    Each tier's part is that of its chunks' lengths; without ``dbstat`` the lengths alone.
    """
    pages = live_bytes(path).get("chunks")
    connection = sqlite3.connect(path)
    query = "SELECT tier, sum(length(data)) FROM chunk JOIN chunk_data USING(id) GROUP BY 1"
    names = {width: tier for tier, width in TIERS.items()}
    lengths = {names[width]: size for width, size in connection.execute(query)}
    connection.close()
    whole = sum(lengths.values())
    return {tier: size * (pages or whole) // whole for tier, size in lengths.items()}


def bytes_of(path: Path) -> int:
    """Return all bytes in use."""
    return sum(live_bytes(path).values())
