"""``manage.py vacuum_metrics``: rewrite the SQLite metric store without free pages."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from metrics.stores import StoreError
from metrics.stores.sqlite.backup import compact
from opscenter.core.shards import shard_paths


class Command(BaseCommand):
    """Shrink the files at once; afterwards they free space incrementally."""

    help = (
        "Rewrites the files of the SQLite metric store without free space. Pulls wait"
        " meanwhile: stop Ops Center first. Needs as much free disk as the files have data."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        """Rewrite each file. Exit code 1: it failed; the file is unchanged."""
        paths = shard_paths(Path(settings.METRICS_SQLITE_PATH), settings.METRICS_SHARDS)
        for path in paths:
            if not path.exists():
                continue
            try:
                before, after = compact(path)
            except (StoreError, OSError) as exc:
                print(f"vacuum_metrics: {exc}", file=sys.stderr)
                sys.exit(1)
            self.stdout.write(f"{path.name}: {before:,} -> {after:,} bytes")
