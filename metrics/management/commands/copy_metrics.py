"""``manage.py copy_metrics --to NAME``: all metrics from one store into the other."""

from __future__ import annotations

import sys
import time
from argparse import ArgumentParser
from typing import Any
from uuid import UUID

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand

from clusters import legal_holds
from clusters.models import Cluster
from metrics.retention.in_force import retention_of
from metrics.retention.rules import bound, cells
from metrics.series.catalog import Kind
from metrics.series.windows import STREAM
from metrics.stores import StoreError, get_store
from metrics.stores.copying import Copier, Since, Tally

STORES = ("sqlite", "influxdb")


class Command(BaseCommand):
    """Copy series, newest values, ledger, positions and the rows of all kinds and tiers."""

    help = (
        "Copies all metrics into the store NAME from the other one, and compares both by counts and"
        " checksums. May be stopped and run again at any time. docs/stores.md says more."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("--to", required=True, choices=STORES, help="the store to fill")
        parser.add_argument(
            "--check", action="store_true", help="only compare; exit with 1 if anything is missing"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Copy. Exit code 0: all is copied; 1: something is missing; 2: a setting is wrong."""
        target = options["to"]
        source = STORES[1 - STORES.index(target)]
        try:
            copier = Copier(
                get_store(source), get_store(target), _since(), only_check=options["check"]
            )
            clusters = list(get_store(source).clusters())
        except ImproperlyConfigured as exc:
            print(f"manage.py copy_metrics: {exc}", file=sys.stderr)
            sys.exit(2)
        except StoreError as exc:
            print(f"manage.py copy_metrics: {exc}", file=sys.stderr)
            sys.exit(1)
        self.stdout.write(f"{len(clusters)} clusters from {source} to {target}")
        wrong = 0
        started = time.monotonic()
        for number, cluster in enumerate(clusters, start=1):
            self.stdout.write(f"[{number}/{len(clusters)}] cluster {_name(cluster)}")
            wrong += self._copy(copier, cluster)
        seconds = time.monotonic() - started
        self.stdout.write(
            f"done in {seconds:.0f} s: everything is there"
            if not wrong
            else f"done in {seconds:.0f} s: {wrong} differences, run it again"
        )
        if wrong:
            sys.exit(1)

    def _copy(self, copier: Copier, cluster: UUID) -> int:
        """Copy one cluster, printing each step; return how many differences are left."""
        wrong = 0
        try:
            for tally in copier.cluster(cluster, [STREAM]):
                if tally.rows:
                    self.stdout.write(f"    {_line(tally)}")
                    self.stdout.flush()
                wrong += bool(tally.missing)
            for difference in copier.differences(cluster, [STREAM]):
                self.stdout.write(f"    {difference}")
                wrong += 1
        except StoreError as exc:
            self.stdout.write(f"    stopped: {exc}")
            wrong += 1
        return wrong


def _line(tally: Tally) -> str:
    parts = [f"{tally.kind} {tally.tier}: {tally.rows:,} rows"]
    if tally.there:
        parts.append(f"{tally.there:,} were there")
    if tally.copied:
        parts.append(f"{tally.copied:,} copied")
    if tally.better:
        parts.append(f"{tally.better:,} are better in the target and stay")
    if tally.missing:
        parts.append(f"{tally.missing:,} MISSING or different")
    return ", ".join(parts)


def _name(cluster: UUID) -> str:
    row = Cluster.objects.filter(pk=cluster).first()
    return f"{row.name} ({cluster})" if row is not None else str(cluster)


def _since() -> Since:
    """Return a function for the bounds of expiry; each cluster's are looked up once."""
    now = int(time.time())
    known: dict[UUID, dict[tuple[Kind, str], int]] = {}

    def since(cluster: UUID, kind: Kind, tier: str) -> int:
        if cluster not in known:
            row = Cluster.objects.filter(pk=cluster).first()
            limits = retention_of(row).limits if row and not legal_holds.is_held(cluster) else None
            known[cluster] = (
                {}
                if limits is None
                else {(one, each): bound(now, limits[one][each]) for one, each in cells()}
            )
        return known[cluster].get((kind, tier), 0)

    return since
