"""``manage.py export_metrics``: all stored data of a customer or cluster, as files."""

from __future__ import annotations

import os
import sys
import time
from argparse import ArgumentParser
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand

from clusters import audit
from clusters.models import Cluster, Customer
from metrics.exports import jobs
from metrics.exports.archive import Progress, Span, write_export
from metrics.exports.targets import Directory
from metrics.stores import StoreError, get_store
from opscenter.core.errors import InvalidInputError

_NICE = 10
_REPORT_SECONDS = 2.0


class Command(BaseCommand):
    """Write into a directory, or write the file of a requested export (--job)."""

    help = (
        "Writes all stored data of one customer or cluster into a directory, as Parquet or"
        " CSV, in bounded memory, with progress on stderr. docs/retention.md says what is in it."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        whose = parser.add_mutually_exclusive_group(required=True)
        whose.add_argument("--customer", help="id or name of the customer")
        whose.add_argument("--cluster", help="id or name of the cluster")
        whose.add_argument("--job", type=UUID, help="run a claimed export; for the worker")
        parser.add_argument("--format", choices=("parquet", "csv"), default="parquet")
        parser.add_argument("--out", help="directory to write to; created if it does not exist")
        parser.add_argument("--start", default="", help="ISO 8601, UTC; default: all there is")
        parser.add_argument("--end", default="", help="ISO 8601, UTC; default: now")

    def handle(self, *args: Any, **options: Any) -> None:
        """Export. Exit code 0: all is written; 1: not all; 2: it cannot begin."""
        if options["job"] is not None:
            parent = os.getppid()
            os.nice(_NICE)
            jobs.make(options["job"], alive=lambda: os.getppid() == parent)
            return
        try:
            span = _span(options)
        except InvalidInputError as exc:
            print(f"manage.py export_metrics: {exc}", file=sys.stderr)
            sys.exit(2)
        out = Path(options["out"])
        detail = {"of": span.what, "format": span.form, "start": span.start, "end": span.end}
        audit.record("data.export", actor="manage.py", detail=detail)
        started = time.monotonic()
        try:
            target = Directory(out)
            done = write_export(
                get_store(), span, target, now=int(time.time()), report=_Line(self.stderr)
            )
        except (StoreError, OSError) as exc:
            print(f"\nmanage.py export_metrics: {exc}; run it again", file=sys.stderr)
            sys.exit(1)
        self.stderr.write("\n", ending="")
        seconds = time.monotonic() - started
        self.stdout.write(
            f"{done.rows:,} rows, {target.size_bytes:,} bytes in {seconds:.0f} s: {out}"
        )


class _Line:
    """One line on stderr with the progress."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._next = 0.0

    def __call__(self, progress: Progress) -> None:
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _REPORT_SECONDS
        line = f"{progress.ratio:4.0%}  {progress.rows:,} rows  {progress.step}"
        self._stream.write(f"\r{line:<78}", ending="")
        self._stream.flush()


def _span(options: dict[str, Any]) -> Span:
    """Return the content of the export from the options.

    Raises:
        InvalidInputError: naming the invalid option.
    """
    if not options["out"]:
        raise InvalidInputError("--out: name the directory to write to")
    start = _moment("--start", options["start"], 0)
    end = _moment("--end", options["end"], int(time.time()))
    if start >= end:
        raise InvalidInputError("--end: the range is empty")
    if options["cluster"] is not None:
        cluster = _named(Cluster, options["cluster"])
        return Span(f"the cluster {cluster}", [cluster], options["format"], start, end)
    customer = _named(Customer, options["customer"])
    clusters = list(Cluster.objects.filter(customer=customer).order_by("name"))
    return Span(f"the customer {customer}", clusters, options["format"], start, end)


def _named(model: Any, wanted: str) -> Any:
    try:
        found = model.objects.filter(pk=UUID(wanted)).first()
    except ValueError:
        found = model.objects.filter(name=wanted).first()
    if found is None:
        raise InvalidInputError(f"there is no {model._meta.model_name} {wanted}")
    return found


def _moment(option: str, text: str, default: int) -> int:
    if not text:
        return default
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as exc:
        raise InvalidInputError(f"{option}: {text!r} is not an ISO 8601 time") from exc
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
