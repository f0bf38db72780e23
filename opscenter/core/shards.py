"""The files of the SQLite metric store, by the number of shards. Only lists a directory."""

from __future__ import annotations

import re
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

_SHARD = re.compile(r"-\d+-of-\d+")


def shard_paths(path: Path, shards: int) -> list[Path]:
    """Return the files of the store: ``path`` itself, or ``metrics-1-of-4.sqlite3`` and so on."""
    if shards == 1:
        return [path]
    names = [f"{path.stem}-{number}-of-{shards}{path.suffix}" for number in range(1, shards + 1)]
    return [path.with_name(name) for name in names]


def check_shards(path: Path, shards: int) -> None:
    """Refuse a number of shards that is not the one the data beside ``path`` was written with.

    Raises:
        ImproperlyConfigured: naming the variable and the file.
    """
    own = {found.name for found in shard_paths(path, shards)}
    for found in sorted(path.parent.glob(f"{path.stem}*{path.suffix}")):
        between = found.name.removeprefix(path.stem).removesuffix(path.suffix)
        if found.name not in own and (not between or _SHARD.fullmatch(between)):
            written = between.rpartition("-")[2] or "1"
            msg = (
                f"METRICS_SHARDS={shards}, but {found} was written with METRICS_SHARDS={written}:"
                " the number cannot be changed once there is data (docs/operations.md)"
            )
            raise ImproperlyConfigured(msg)
