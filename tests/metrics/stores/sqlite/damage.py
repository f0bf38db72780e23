"""What a bad disk does to a SQLite store's sealed chunks."""

from __future__ import annotations

import sqlite3
from pathlib import Path


def damage(path: Path) -> None:
    """Change a byte of the first hour of the pods."""
    connection = sqlite3.connect(path)
    (chunk, data) = connection.execute(
        "SELECT id, data FROM chunk_data"
        " WHERE id = (SELECT min(id) FROM chunk WHERE kind = 3 AND tier = 60)"
    ).fetchone()
    broken = data[:60] + bytes([data[60] ^ 255]) + data[61:]
    connection.execute("UPDATE chunk_data SET data = ? WHERE id = ?", (broken, chunk))
    connection.commit()
    connection.close()
