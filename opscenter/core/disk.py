"""Room on a disk: how much is free, and the proofs that a file can grow and is still in place."""

from __future__ import annotations

import errno
import os
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

NEEDED_BYTES = 1_000_000
"""With less than this free, a disk is called full: one pull of a cluster may need it."""
_PROOF_BYTES = 65_536


def free_bytes(directory: Path) -> int:
    """Return how many bytes we may still write on a directory's disk; 0 without free inodes.

    Raises:
        OSError: if the directory cannot be asked.
    """
    found = os.statvfs(directory)
    if found.f_files and not found.f_favail:
        return 0
    return found.f_bavail * found.f_frsize


def is_full(directory: Path) -> bool:
    """Return whether a directory's disk is known to be full."""
    try:
        return free_bytes(directory) < NEEDED_BYTES
    except OSError:
        return False


def prove_space(directory: Path) -> None:
    """Allocate some blocks in a file without a name, which is gone at once.

    A database may take a small write on a full disk, where it overwrites a part of its log.

    Raises:
        OSError: if there is no room, also because of a quota, or the directory is read-only.
    """
    with tempfile.TemporaryFile(dir=directory, buffering=0) as file:
        os.posix_fallocate(file.fileno(), 0, _PROOF_BYTES)


def prove_in_place(path: Path, statement: str, written: float) -> None:
    """Read from a SQLite file by its name, through a new connection, what was just written.

    A connection that is open goes on writing to a file that was deleted, moved or replaced: all of
    that is gone with the process.

    Args:
        path: the file's name.
        statement: a query for one number.
        written: what it was at least set to.

    Raises:
        OSError: the file of this name is not the one that was written.
        sqlite3.Error: it cannot be read.
    """
    path.stat()
    uri = f"{path.resolve().as_uri()}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True)) as connection:
        row = connection.execute(statement).fetchone()
    if row is None or float(row[0]) < written:
        raise OSError(errno.ESTALE, "the file of this name is not the one that is written", path)
