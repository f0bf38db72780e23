"""``manage.py backup_metrics TARGET``: a consistent copy of the SQLite metric store."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from metrics.stores import StoreError
from metrics.stores.sqlite.backup import back_up
from opscenter.core.shards import shard_paths


class Command(BaseCommand):
    """Copy the metric store's files into a new directory while Ops Center runs."""

    help = (
        "Copies the SQLite metric store into the new directory TARGET while Ops Center runs, and"
        " checks the copy. docs/operations.md says how to restore it."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("target", type=Path, help="the directory to create")

    def handle(self, *args: Any, **options: Any) -> None:
        """Back up. Exit code 1: it failed, and there is no TARGET; 2: the store is not SQLite."""
        if settings.METRICS_STORE != "sqlite":
            print("backup_metrics: METRICS_STORE is not sqlite: use its own tools", file=sys.stderr)
            sys.exit(2)
        paths = shard_paths(Path(settings.METRICS_SQLITE_PATH), settings.METRICS_SHARDS)
        target: Path = options["target"].absolute()
        try:
            size = back_up(paths, target, report=self.stdout.write)
        except StoreError as exc:
            print(f"backup_metrics: {exc}", file=sys.stderr)
            sys.exit(1)
        self.stdout.write(f"{target}: {size:,} bytes, checked")
