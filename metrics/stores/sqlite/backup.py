"""Copies of the SQLite store's files while they are in use, and giving free space back."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

from metrics.stores.errors import StoreError
from metrics.stores.sqlite.connection import Connections, explain

_PAGES = 4_096  # of one step: 16 MB
_FREED_AT_ONCE = 500  # pages: some ten milliseconds that pulls wait
_FREED_A_RUN = 50_000
_KEPT_FREE = 8_192  # pages: what comes next takes them without growing the file
_KEPT_SHARE = 0.1


def back_up(
    paths: Sequence[Path], target: Path, *, tell: Callable[[str], object] = lambda _: None
) -> int:
    """Copy the files of a store into a new directory, each as it is at one moment.

    Pulls go on meanwhile. The directory appears under its name once every copy is written and
    checked; one that was cut off leaves ``<name>.part`` behind, which the next one replaces.

    Args:
        paths: of the store; those that do not exist yet are left out.
        target: the directory to make; its parent exists.
        tell: takes a line of progress.

    Returns:
        How many bytes the copies have.

    Raises:
        StoreError: there is such a directory, nothing to copy, no space, or a copy is damaged.
    """
    present = [path for path in paths if path.exists()]
    if not present:
        msg = f"{paths[0]}: there is nothing to back up yet"
        raise StoreError(msg)
    if target.exists():
        msg = f"{target} exists already: name a directory to be made"
        raise StoreError(msg)
    part = target.with_name(f"{target.name}.part")
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(mode=0o700)
        for path in present:
            _copy(path, part / path.name, tell)
        _sync(part)
        part.rename(target)
        _sync(target.parent)
    except OSError as exc:
        msg = f"{target}: {exc.strerror or exc}"
        raise StoreError(msg) from exc
    return sum(copy.stat().st_size for copy in target.iterdir())


def _copy(path: Path, copy: Path, tell: Callable[[str], object]) -> None:
    copy.touch(mode=0o600)
    source = sqlite3.connect(path, timeout=30, isolation_level=None)
    into = sqlite3.connect(copy, isolation_level=None)
    try:
        # One read transaction over all steps: writers do not wait for it, and do not disturb it.
        source.execute("BEGIN")
        source.execute("SELECT count(*) FROM meta").fetchone()
        told = -1

        def progress(_status: int, remaining: int, total: int) -> None:
            nonlocal told
            percent = 100 * (total - remaining) // max(1, total)
            if percent // 10 > told // 10:
                told = percent
                tell(f"{path.name}: {percent} %")

        source.backup(into, pages=_PAGES, progress=progress)
        source.execute("ROLLBACK")
        # A file of its own, without a log beside it; the store makes it one with a log again.
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
    """Wait until a file or directory is on the disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def free_space(connections: Connections, *, all_of_it: bool = False) -> int:
    """Give free pages at the end of the file back to the disk, some at a time.

    A tenth of the file, and 32 MB, stay for what comes next, unless ``all_of_it`` has to go.
    Files that were made without incremental vacuum keep all: :func:`compact` changes that.

    Returns:
        How many bytes the file is smaller.
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
        spare = free if all_of_it else free - max(_KEPT_FREE, int(_KEPT_SHARE * pages))
        if mode != _INCREMENTAL or spare <= 0:
            break
        count = min(spare, _FREED_AT_ONCE)
        connections.give_back(count)
        freed += count
    return freed * size


_INCREMENTAL = 2


def compact(path: Path) -> tuple[int, int]:
    """Write a file anew, without free pages, so that it gives space back by itself later.

    Needs the file for itself and as much free disk as it has data.

    Returns:
        Its bytes before and after.

    Raises:
        StoreError: somebody else has it open for writing, or the disk is full.
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
