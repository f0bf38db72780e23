"""Room on a disk: how much is free, and the proof that a file can still grow."""

from __future__ import annotations

import os
import tempfile
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
