"""Exports on request: written by one process at a time, downloaded, and deleted after a week.

The work is done in its own process, at low priority: it takes one core for an hour for a large
customer, which the worker's threads would take from pulls. A request is a row
(:class:`metrics.models.Export`); if the process dies, the next tick starts it again.
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
from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction
from django.db.models import Max, Q, QuerySet
from django.db.models.functions import Coalesce

from clusters import access, audit
from clusters.access import AnyUser
from clusters.audit import Actor, actor_name
from clusters.models import AuditEvent, Cluster, Customer
from metrics.exports.archive import Progress, Span, write_export
from metrics.exports.formats import Format
from metrics.exports.targets import Zip, part_of
from metrics.models import Export
from metrics.stores import StoreError, get_store
from opscenter.core import task_queue
from opscenter.core.ages import FUTURE_SECONDS
from opscenter.core.errors import (
    ConflictError,
    ForbiddenError,
    InvalidInputError,
    OpsCenterError,
)
from opscenter.core.paths import ensure_private_directory
from opscenter.core.text import one_line

TASK = "metrics.export"
RETENTION = timedelta(days=7)
"""How long a file can be downloaded."""
MAX_FINISHED = 2
"""Finished files of one customer or cluster that staff, and as many that its own users, asked for:
neither pushes out the other's."""
AUDITED_EVERY = timedelta(minutes=10)
"""Parts of a file that one user fetches within this time are one download."""
SILENT_AFTER = timedelta(seconds=120)
"""After this time without progress the process counts as dead, and another one starts again."""
_FUTURE = timedelta(seconds=FUTURE_SECONDS)
LEAST_FREE_BYTES = 1 << 30
"""An export stops if it would leave less disk space than this for the metrics themselves."""
_REPORT_SECONDS = 2.0
_NEVER = datetime.min.replace(tzinfo=UTC)

log = logging.getLogger(__name__)


class ExportStoppedError(OpsCenterError):
    """An export cannot continue; the message has the reason."""

    code = "export_stopped"


def directory() -> Path:
    """Return the directory of the files, which is created if needed."""
    return ensure_private_directory(settings.DATA_DIR / "exports", "OPSCENTER_DATA_DIR")


def path_of(export: Export) -> Path:
    """Return the path of an export's file, which may not exist yet."""
    return directory() / f"{export.pk}.zip"


def visible(user: AnyUser) -> QuerySet[Export]:
    """Return the exports of the customers and clusters that the user may see."""
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
    """Request an export of all stored data of a customer or a cluster.

    Args:
        target: a customer or cluster that the user may see.
        form: the format, "parquet" or "csv".
        actor: the user who requests it, for the audit log.
        start: start of the range in Unix seconds, inclusive.
        end: end of the range in Unix seconds, exclusive; None for now.
        now: current time; None reads the clock.

    Raises:
        InvalidInputError: the format is unknown or the range empty.
        ConflictError: an export of the same target is waiting or running.
    """
    now = now or datetime.now(UTC)
    end = int(now.timestamp()) if end is None else end
    if form not in Export.Format.values:
        raise InvalidInputError(f"format: use {' or '.join(Export.Format.values)}")
    if not 0 <= start < end:
        raise InvalidInputError("end: the range is empty; end must be after start")
    export = Export(
        format=form, start=start, end=end, requested_by=actor_name(actor)[:150], requested_at=now,
        requested_by_staff=not isinstance(actor, AbstractBaseUser) or access.sees_all(actor),
    )  # fmt: skip
    same = Q(cluster=target) if isinstance(target, Cluster) else Q(customer=target)
    with transaction.atomic():
        if Export.objects.filter(same, state__in=("waiting", "running")).exists():
            raise ConflictError("an export of it is already running; wait for that one")
        if isinstance(target, Cluster):
            export.cluster = target
        else:
            export.customer = target
        export.save(force_insert=True)
        _audit("data.export", export, actor, now)
        task_queue.send_on_commit(TASK)
    return export


def may_remove(user: AnyUser, export: Export) -> bool:
    """Return whether a user who sees an export may delete it: who asked for it, or who may act."""
    if export.requested_by == actor_name(user) or access.acts_on_all(user):
        return True
    return export.cluster is not None and access.may(user, export.cluster, "operate_cluster")


def remove(export: Export, *, actor: AnyUser) -> None:
    """Delete an export and its file; one that is running stops.

    Raises:
        ForbiddenError: somebody else asked for it, and the user may not act on what it holds.
    """
    if not may_remove(actor, export):
        msg = f"Only {export.requested_by}, who asked for it, and operators can delete this export."
        raise ForbiddenError(msg)
    with transaction.atomic():
        _audit("data.export_delete", export, actor, datetime.now(UTC))
        pk = export.pk
        export.delete()
    (directory() / f"{pk}.zip").unlink(missing_ok=True)


def record_download(
    export: Export, *, actor: Actor, range_header: str = "", now: datetime | None = None
) -> None:
    """Record a download in the audit log: once for all parts that are fetched one after the other.

    Args:
        export: what is downloaded.
        actor: the user who does.
        range_header: which part, as the request named it; "" for all of it.
        now: current time; None reads the clock.
    """
    now = now or datetime.now(UTC)
    recorded = AuditEvent.objects.filter(
        action="data.download",
        actor=actor_name(actor)[:150],
        at__gt=now - AUDITED_EVERY,
        detail__export=str(export.pk),
    )
    if not recorded.exists():
        _audit("data.download", export, actor, now, range=one_line(range_header, 100))


def work(now: datetime | None = None) -> int:
    """Run every waiting export, one after the other; return how many were run.

    Deletes files that are too old first. Returns at once if another process is running one.
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
        part_of(path_of(export)).unlink(missing_ok=True)  # left by a process that was killed
        Export.objects.filter(pk=export.pk, state="running").update(
            state="failed",
            problem=f"the process that made it ended ({status})",
            finished_at=datetime.now(UTC),
        )
    return made


def claim(now: datetime) -> Export | None:
    """Claim the next waiting export; None if there is none, or one is running.

    Customers take turns: first comes the one whose last export was worked on longest ago.
    """
    with transaction.atomic():
        # A time in the future, which a clock that was ahead left, is no sign of life.
        alive = Q(state="running", seen_at__gt=now - SILENT_AFTER, seen_at__lte=now + _FUTURE)
        if Export.objects.filter(alive).exists():
            return None
        waiting = Export.objects.select_for_update(of=("self",)).select_related("cluster")
        ready = list(waiting.filter(state__in=("waiting", "running")).order_by("requested_at"))
        if not ready:
            return None
        served = _last_served()
        export = min(ready, key=lambda one: served.get(_customer_id(one), _NEVER))
        export.state, export.seen_at, export.rows, export.done_ratio = "running", now, 0, 0
        export.save(update_fields=["state", "seen_at", "rows", "done_ratio"])
    return export


def _last_served() -> dict[UUID | None, datetime]:
    """Return when an export of each customer was last worked on; None is "no customer"."""
    rows = (
        Export.objects.exclude(seen_at=None)
        .annotate(whose=Coalesce("customer_id", "cluster__customer_id"))
        .values_list("whose")
        .annotate(at=Max("seen_at"))
        .order_by()
    )
    return dict(rows)


def _customer_id(export: Export) -> UUID | None:
    return export.customer_id if export.cluster is None else export.cluster.customer_id


def make(export_id: UUID, *, alive: Callable[[], bool] = lambda: True) -> None:
    """Write the file of a claimed export; a failure is stored in its row.

    Args:
        export_id: id of a row whose state is "running".
        alive: called from time to time; False stops the work and leaves it to the next process.
    """
    export = Export.objects.select_related("customer", "cluster").get(pk=export_id)
    path = path_of(export)
    report = _ProgressReport(export, alive)
    end: dict[str, Any]
    try:
        target = Zip(path)
        done = write_export(
            get_store(), span_of(export), target, now=int(time.time()), report=report
        )
    except (ExportStoppedError, StoreError, OSError) as exc:
        part_of(path).unlink(missing_ok=True)
        if isinstance(exc, ExportStoppedError) and report.gone:
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
    """Return the content of an export."""
    if export.cluster is not None:
        what, clusters = f"the cluster {export.cluster}", [export.cluster]
    else:
        what = f"the customer {export.customer}"
        clusters = list(Cluster.objects.filter(customer=export.customer).order_by("name"))
    form: Format = "parquet" if export.format == "parquet" else "csv"
    return Span(what, clusters, form, export.start, export.end)


def sweep(now: datetime) -> int:
    """Delete exports that are too old, and files without an export; return how many files."""
    old = Export.objects.filter(finished_at__lt=now - RETENTION)
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
    """Delete finished files that contain a cluster, also those of its former customers."""
    for export in Export.objects.filter(state="ready"):
        path = path_of(export)
        if path.exists() and _may_hold(path, cluster):
            path.unlink(missing_ok=True)
            export.delete()


def _may_hold(path: Path, cluster: UUID) -> bool:
    """Return whether a file's manifest lists a cluster, or the file is damaged."""
    try:
        with zipfile.ZipFile(path) as file:
            listed = orjson.loads(file.read("export.json"))["clusters"]
    except (zipfile.BadZipFile, KeyError) as exc:
        log.warning("export %s is damaged and is deleted: %s", path.stem, exc)
        return True
    return str(cluster) in {one["id"] for one in listed}


def _keep_newest(export: Export) -> None:
    """Delete all but the newest files of the same target that the same kind of person asked for."""
    same = Export.objects.filter(
        customer=export.customer,
        cluster=export.cluster,
        requested_by_staff=export.requested_by_staff,
        state__in=("ready", "failed"),
    )
    for old in same.order_by("-requested_at")[MAX_FINISHED:]:
        path_of(old).unlink(missing_ok=True)
        old.delete()


def _problem(exc: Exception) -> str:
    """Return the failure's text for any user: errors of store and disk name files."""
    if isinstance(exc, StoreError):
        return "the metric store cannot be read at the moment; Ops Center's log says why"
    if isinstance(exc, OSError):
        return f"the file cannot be written: {exc.strerror}"
    return str(exc)[:500]


class _ProgressReport:
    """Writes progress to the row from time to time, and stops the work when necessary."""

    def __init__(self, export: Export, alive: Callable[[], bool]) -> None:
        self.export = export
        self.gone = False
        self._alive = alive
        self._next = 0.0

    def __call__(self, progress: Progress) -> None:
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _REPORT_SECONDS
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
            raise ExportStoppedError("the worker ended; the next one starts again")
        if shutil.disk_usage(directory()).free < LEAST_FREE_BYTES:
            msg = f"less than {LEAST_FREE_BYTES >> 20} MiB are left on the disk; free some space"
            raise ExportStoppedError(msg)


def _audit(action: str, export: Export, actor: Actor, now: datetime, **more: str) -> None:
    detail = {
        "export": str(export.pk),
        "of": str(export.customer or export.cluster),
        "customer_id": str(export.customer_id or ""),
        "format": export.format,
        "start": export.start,
        "end": export.end,
        **more,
    }
    audit.record(action, actor=actor, cluster_id=export.cluster_id, detail=detail, now=now)
