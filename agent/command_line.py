"""Keeping a secret out of the list of processes, which every user of a machine may read."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

_ARG_START, _ARG_END = 48, 49  # fields of /proc/self/stat, counted from one (proc(5))
_FIRST_AFTER_NAME = 3
MAX_SECRET_BYTES = 4096


def hide_argument(secret: str) -> None:
    """Overwrite an argument of this process where others read it, as far as the system lets us.

    It was there for the moments until now; ``--token-file`` and the environment do not show it at
    all. Without Linux's /proc nothing is changed.
    """
    encoded = secret.encode("utf-8", "surrogateescape")
    if not encoded:
        return
    try:
        stat = Path("/proc/self/stat").read_text(encoding="utf-8", errors="replace")
        fields = stat.rpartition(")")[2].split()
        start, end = (int(fields[at - _FIRST_AFTER_NAME]) for at in (_ARG_START, _ARG_END))
    except (OSError, ValueError, IndexError):
        return
    if not start or end <= start:
        return  # the system does not say where they are
    arguments = ctypes.string_at(start, end - start)
    at = arguments.find(encoded)
    while at >= 0:
        ctypes.memset(start + at, ord("x"), len(encoded))
        at = arguments.find(encoded, at + len(encoded))


def read_secret(where: str) -> str:
    """Return the secret in a file; ``-`` is standard input.

    Raises:
        ValueError: saying in one line why there is none.
    """
    name = "standard input" if where == "-" else where
    try:
        if where == "-":
            text = sys.stdin.read(MAX_SECRET_BYTES)
        else:
            with Path(where).open(encoding="utf-8") as file:
                text = file.read(MAX_SECRET_BYTES)
    except UnicodeDecodeError as exc:
        raise ValueError(f"--token-file: {name} is not text") from exc
    except OSError as exc:
        raise ValueError(f"--token-file: {name} cannot be read: {exc.strerror}") from exc
    if not text.strip():
        raise ValueError(f"--token-file: {name} is empty")
    return text.strip()
