"""Backups of the SQLite store's files while they are in use, and freeing of space."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

from metrics.stores.errors import StoreError
from metrics.stores.sqlite.connection import Connections, explain

_PAGES = 4_096  # of one step: 16 MB
_FREED_AT_ONCE = 500  # pages: pulls wait for some ten milliseconds
_FREED_A_RUN = 50_000
_RESERVED_PAGES = 8_192  # new data uses them without growing the file
_RESERVED_SHARE = 0.1


def back_up(
    paths: Sequence[Path], target: Path, *, report: Callable[[str], object] = lambda _: None
) -> int:
    """Copy the files of a store into a new directory, each as it is at one moment.

    Pulls continue meanwhile. The directory gets its name once every copy is written and checked; an
    interrupted backup leaves ``<name>.part`` behind, which the next one replaces.

    Args:
        paths: the store's files; those that do not exist yet are left out.
        target: the directory to create; its parent must exist.
        report: called with each line of progress.

    Returns:
        The size of the copies in bytes.

    Raises:
        StoreError: the directory exists, there is nothing to copy, no space, or a copy is damaged.
    """
    present = [path for path in paths if path.exists()]
    if not present:
        msg = f"{paths[0]}: there is nothing to back up yet"
        raise StoreError(msg)
    if target.exists():
        msg = f"{target} exists already: name a new directory"
        raise StoreError(msg)
    part = target.with_name(f"{target.name}.part")
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(mode=0o700)
        for path in present:
            _copy(path, part / path.name, report)
        _sync(part)
        part.rename(target)
        _sync(target.parent)
    except OSError as exc:
        msg = f"{target}: {exc.strerror or exc}"
        raise StoreError(msg) from exc
    return sum(copy.stat().st_size for copy in target.iterdir())


def _copy(path: Path, copy: Path, report: Callable[[str], object]) -> None:
    copy.touch(mode=0o600)
    source = sqlite3.connect(path, timeout=30, isolation_level=None)
    into = sqlite3.connect(copy, isolation_level=None)
    try:
        # One read transaction over all steps: writers do not wait for it, and do not disturb it.
        source.execute("BEGIN")
        source.execute("SELECT count(*) FROM meta").fetchone()
        reported = -1

        def progress(_status: int, remaining: int, total: int) -> None:
            nonlocal reported
            percent = 100 * (total - remaining) // max(1, total)
            if percent // 10 > reported // 10:
                reported = percent
                report(f"{path.name}: {percent} %")

        source.backup(into, pages=_PAGES, progress=progress)
        source.execute("ROLLBACK")
        # A single file without a write-ahead log; the store switches it back to one with a log.
        into.execute("PRAGMA journal_mode = DELETE").fetchone()
        (answer,) = into.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as exc:
        msg = f"{path}: {explain(exc)}"
        raise StoreError(msg) from exc
    finally:
        source.close()
        into.close()
    if answer != "ok":
        msg = f"the copy of {path} is damaged: {answer}"
        raise StoreError(msg)
    _sync(copy)


def _sync(path: Path) -> None:
    """Wait until a file or directory is on disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def free_space(connections: Connections, *, all_of_it: bool = False) -> int:
    """Return free pages at the end of the file to the disk, some at a time.

    A tenth of the file, and at least 32 MB, stay reserved for new data unless ``all_of_it`` is set.
    Files created without incremental vacuum keep all: :func:`compact` changes that.

    Returns:
        By how many bytes the file shrank.
    """
    freed = size = 0
    connection = connections.get()
    while all_of_it or freed < _FREED_A_RUN:
        with connections.translated():
            pages, free, size = (
                int(connection.execute(f"PRAGMA {name}").fetchone()[0])
                for name in ("page_count", "freelist_count", "page_size")
            )
            (mode,) = connection.execute("PRAGMA auto_vacuum").fetchone()
        spare = free if all_of_it else free - max(_RESERVED_PAGES, int(_RESERVED_SHARE * pages))
        if mode != _INCREMENTAL or spare <= 0:
            break
        count = min(spare, _FREED_AT_ONCE)
        connections.give_back(count)
        freed += count
    return freed * size


_INCREMENTAL = 2


def compact(path: Path) -> tuple[int, int]:
    """Rewrite a file without free pages, so that later it can free space incrementally.

    Needs exclusive access to the file and as much free disk space as it has data.

    Returns:
        Its size before and after, in bytes.

    Raises:
        StoreError: another process has it open for writing, or the disk is full.
    """
    before = path.stat().st_size
    connection = sqlite3.connect(path, timeout=30, isolation_level=None)
    try:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    except sqlite3.Error as exc:
        msg = f"{path}: {explain(exc)}"
        raise StoreError(msg) from exc
    finally:
        connection.close()
    return before, path.stat().st_size
