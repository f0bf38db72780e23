"""Exports on request: asked for, made by one process at a time, fetched, and gone after a week.

The work is done in a process of its own, at low priority: it is an hour of one core for a large
customer, which the worker's threads would take from pulls. What is asked for is a row
(:class:`metrics.models.Export`); a process that dies leaves it to the next tick, from the start.
"""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
from django.conf import settings
from django.db import transaction
from django.db.models import Q, QuerySet

from clusters import access, audit
from clusters.access import AnyUser
from clusters.audit import Actor, actor_name
from clusters.models import Cluster, Customer
from metrics.exports.archive import Progress, Span, write_export
from metrics.exports.formats import Format
from metrics.exports.targets import Zip, part_of
from metrics.models import Export
from metrics.stores import StoreError, get_store
from opscenter.core import task_queue
from opscenter.core.errors import ConflictError, InvalidInputError, OpsCenterError
from opscenter.core.paths import ensure_private_directory

TASK = "metrics.export"
KEPT = timedelta(days=7)
"""How long a file can be fetched."""
NEWEST_KEPT = 2
"""How many finished files of one customer or cluster there are at most."""
SILENT_AFTER = timedelta(seconds=120)
"""After so long without a sign the process is taken for dead, and another begins anew."""
LEAST_FREE_BYTES = 1 << 30
"""An export stops rather than leave less than this to the metrics themselves."""
_SAY_SECONDS = 2.0

log = logging.getLogger(__name__)


class ExportStoppedError(OpsCenterError):
    """An export cannot go on; the message says why."""

    code = "export_stopped"


def directory() -> Path:
    """Return the directory of the files, made if need be."""
    return ensure_private_directory(settings.DATA_DIR / "exports", "OPSCENTER_DATA_DIR")


def path_of(export: Export) -> Path:
    """Return where the file of an export is, or will be."""
    return directory() / f"{export.pk}.zip"


def visible(user: AnyUser) -> QuerySet[Export]:
    """Return the exports of what the user sees."""
    return Export.objects.select_related("customer", "cluster").filter(
        Q(customer__in=access.visible_customers(user).order_by())
        | Q(cluster__in=access.visible_clusters(user).order_by())
    )


def request(
    target: Customer | Cluster,
    *,
    form: str,
    actor: Actor,
    start: int = 0,
    end: int | None = None,
    now: datetime | None = None,
) -> Export:
    """Ask for an export of everything that is kept of a customer or a cluster.

    Args:
        target: visible to the asker.
        form: "parquet" or "csv".
        actor: who asks; it is written down.
        start: Unix time, included.
        end: Unix time, excluded; now if None.
        now: when; the clock if None.

    Raises:
        InvalidInputError: an unknown format or an empty range.
        ConflictError: if one of the same target is under way.
    """
    now = now or datetime.now(UTC)
    end = int(now.timestamp()) if end is None else end
    if form not in Export.Format.values:
        raise InvalidInputError(f"format: use {' or '.join(Export.Format.values)}")
    if not 0 <= start < end:
        raise InvalidInputError("end: the range is empty; end must be after start")
    export = Export(
        format=form, start=start, end=end, requested_by=actor_name(actor)[:150], requested_at=now
    )
    same = Q(cluster=target) if isinstance(target, Cluster) else Q(customer=target)
    with transaction.atomic():
        if Export.objects.filter(same, state__in=("waiting", "running")).exists():
            raise ConflictError("format: an export of it is under way; wait for that one")
        if isinstance(target, Cluster):
            export.cluster = target
        else:
            export.customer = target
        export.save(force_insert=True)
        _audit("data.export", export, actor, now)
        task_queue.send_on_commit(TASK)
    return export


def remove(export: Export, *, actor: Actor) -> None:
    """Delete an export and its file; one that is being made stops."""
    with transaction.atomic():
        _audit("data.export_delete", export, actor, datetime.now(UTC))
        pk = export.pk
        export.delete()
    (directory() / f"{pk}.zip").unlink(missing_ok=True)


def fetched(export: Export, *, actor: Actor) -> None:
    """Write down that somebody fetches the file."""
    _audit("data.download", export, actor, datetime.now(UTC))


def work(now: datetime | None = None) -> int:
    """Make every export that waits, one after the other; return how many were made.

    Files that are too old go first. Returns at once if another process is making one.
    """
    sweep(now or datetime.now(UTC))
    made = 0
    while (export := claim(datetime.now(UTC))) is not None:
        command = [sys.executable, str(settings.BASE_DIR / "manage.py"), "export_metrics"]
        process = subprocess.Popen(
            [*command, "--job", str(export.pk)], stdin=subprocess.DEVNULL, cwd=settings.BASE_DIR
        )
        status = process.wait()
        made += 1
        part_of(path_of(export)).unlink(missing_ok=True)  # of a process that was killed
        Export.objects.filter(pk=export.pk, state="running").update(
            state="failed",
            problem=f"the process that made it ended ({status})",
            finished_at=datetime.now(UTC),
        )
    return made


def claim(now: datetime) -> Export | None:
    """Take the export that is next in line; None if none is, or one is being made."""
    with transaction.atomic():
        alive = Q(state="running", seen_at__gt=now - SILENT_AFTER)
        if Export.objects.filter(alive).exists():
            return None
        export = (
            Export.objects.select_for_update()
            .filter(state__in=("waiting", "running"))
            .order_by("requested_at")
            .first()
        )
        if export is None:
            return None
        export.state, export.seen_at, export.rows, export.done_ratio = "running", now, 0, 0
        export.save(update_fields=["state", "seen_at", "rows", "done_ratio"])
    return export


def make(export_id: UUID, *, alive: Callable[[], bool] = lambda: True) -> None:
    """Make the file of a claimed export; what goes wrong is kept in its row.

    Args:
        export_id: of a row whose state is "running".
        alive: asked now and then; False stops the work and leaves it to the next process.
    """
    export = Export.objects.select_related("customer", "cluster").get(pk=export_id)
    path = path_of(export)
    say = _Saying(export, alive)
    end: dict[str, Any]
    try:
        target = Zip(path)
        done = write_export(get_store(), span_of(export), target, now=int(time.time()), report=say)
    except (ExportStoppedError, StoreError, OSError) as exc:
        part_of(path).unlink(missing_ok=True)
        if isinstance(exc, ExportStoppedError) and say.gone:
            log.warning("export %s: %s", export_id, exc)
            return
        log.error("export %s failed: %s", export_id, exc)
        end = {"state": "failed", "problem": _problem(exc)}
    else:
        end = {"state": "ready", "problem": "", "step": "", "rows": done.rows, "done_ratio": 1.0,
               "size_bytes": path.stat().st_size}  # fmt: skip
    end["finished_at"] = datetime.now(UTC)
    if not Export.objects.filter(pk=export_id).update(**end):
        path.unlink(missing_ok=True)  # deleted meanwhile
        return
    _keep_newest(export)


def span_of(export: Export) -> Span:
    """Return what an export holds."""
    if export.cluster is not None:
        what, clusters = f"the cluster {export.cluster}", [export.cluster]
    else:
        what = f"the customer {export.customer}"
        clusters = list(Cluster.objects.filter(customer=export.customer).order_by("name"))
    form: Format = "parquet" if export.format == "parquet" else "csv"
    return Span(what, clusters, form, export.start, export.end)


def sweep(now: datetime) -> int:
    """Delete exports that are too old, and files that belong to none; return how many files."""
    old = Export.objects.filter(finished_at__lt=now - KEPT)
    old.delete()
    known = {f"{pk}.zip" for pk in Export.objects.values_list("pk", flat=True)}
    gone = 0
    for path in directory().iterdir():
        name = path.name.removeprefix(".").removesuffix(".part")
        if name not in known:
            path.unlink(missing_ok=True)
            gone += 1
    return gone


def forget(cluster: UUID) -> None:
    """Delete finished files that hold a cluster, also those of a customer that had it before."""
    for export in Export.objects.filter(state="ready"):
        path = path_of(export)
        if path.exists() and _may_hold(path, cluster):
            path.unlink(missing_ok=True)
            export.delete()


def _may_hold(path: Path, cluster: UUID) -> bool:
    """Return whether a file says that it holds a cluster, or is damaged and says nothing."""
    try:
        with zipfile.ZipFile(path) as file:
            listed = orjson.loads(file.read("export.json"))["clusters"]
    except (zipfile.BadZipFile, KeyError) as exc:
        log.warning("export %s is damaged and goes: %s", path.stem, exc)
        return True
    return str(cluster) in {one["id"] for one in listed}


def _keep_newest(export: Export) -> None:
    """Delete all but the newest files of the same customer or cluster."""
    same = Export.objects.filter(
        customer=export.customer, cluster=export.cluster, state__in=("ready", "failed")
    )
    for old in same.order_by("-requested_at")[NEWEST_KEPT:]:
        path_of(old).unlink(missing_ok=True)
        old.delete()


def _problem(exc: Exception) -> str:
    """Return what went wrong as any user may read it: errors of store and disk name files."""
    if isinstance(exc, StoreError):
        return "the metric store cannot be read at the moment; Ops Center's log says why"
    if isinstance(exc, OSError):
        return f"the file cannot be written: {exc.strerror}"
    return str(exc)[:500]


class _Saying:
    """Writes progress into the row now and then, and stops the work when it must."""

    def __init__(self, export: Export, alive: Callable[[], bool]) -> None:
        self.export = export
        self.gone = False
        self._alive = alive
        self._next = 0.0

    def __call__(self, progress: Progress) -> None:
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _SAY_SECONDS
        updated = Export.objects.filter(pk=self.export.pk).update(
            seen_at=datetime.now(UTC),
            rows=progress.rows,
            done_ratio=progress.ratio,
            step=progress.step[:200],
        )
        if not updated:
            self.gone = True
            raise ExportStoppedError("the export was deleted")
        if not self._alive():
            self.gone = True
            raise ExportStoppedError("the worker ended; the next one begins anew")
        if shutil.disk_usage(directory()).free < LEAST_FREE_BYTES:
            msg = f"less than {LEAST_FREE_BYTES >> 20} MiB are left on the disk; make room"
            raise ExportStoppedError(msg)


def _audit(action: str, export: Export, actor: Actor, now: datetime) -> None:
    detail = {
        "export": str(export.pk),
        "of": str(export.customer or export.cluster),
        "customer_id": str(export.customer_id or ""),
        "format": export.format,
        "start": export.start,
        "end": export.end,
    }
    audit.record(action, actor=actor, cluster_id=export.cluster_id, detail=detail, now=now)
