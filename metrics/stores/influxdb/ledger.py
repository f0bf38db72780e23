"""The InfluxDB store's part in Django's database: ledger, positions, and the writer's lock.

Series and their newest minutes are :mod:`metrics.stores.influxdb.series`.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from uuid import UUID

from django.db import DatabaseError, connection, transaction
from django.db.models import F, Max, Min, Q, Sum

from metrics.models.influxdb_store import MetricCluster, MetricPosition, MetricSeries, MetricWindow
from metrics.series.catalog import FIELD_NAMES, Kind
from metrics.series.windows import Position, Window
from metrics.stores.errors import StoreError
from metrics.stores.window_runs import Sums, runs

WRITER_SECONDS = 120
WRITER_WAIT_SECONDS = 30

_POLL_SECONDS = 0.02
_WINDOW = tuple(Window.__dataclass_fields__)


@contextmanager
def translated() -> Iterator[None]:
    """Turn an error of Django's database into a :class:`StoreError`."""
    try:
        yield
    except DatabaseError as exc:
        msg = f"the database with the index of the metrics refuses: {exc}"
        raise StoreError(msg) from exc


@contextmanager
def writing(cluster: UUID, *, erasing: bool = False) -> Iterator[MetricCluster]:
    """Hold a cluster's write lock; the cluster is created if it is new.

    The lock of a writer that died is taken over when it times out. After a writer died or failed,
    some of its points may be stored, so every process drops its cache of the cluster.

    Raises:
        StoreError: another one writes for too long, or the cluster is being erased.
    """
    with translated():
        row, _ = MetricCluster.objects.get_or_create(cluster=cluster)
    token = secrets.token_hex(16)
    give_up_at = time.monotonic() + WRITER_WAIT_SECONDS
    free = MetricCluster.objects.filter(pk=row.pk)
    while True:
        now = time.time()
        with translated():
            ours = {"writer": token, "writer_until": now + WRITER_SECONDS}
            if free.filter(writer="").update(**ours):
                break
            if free.filter(writer_until__lt=now).update(**ours, generation=F("generation") + 1):
                break
        if time.monotonic() > give_up_at:
            msg = f"another process writes the metrics of cluster {cluster}; try again"
            raise StoreError(msg)
        time.sleep(_POLL_SECONDS)
    try:
        with translated():
            row.refresh_from_db()
        if row.erasing and not erasing:
            msg = f"the metrics of cluster {cluster} are being erased; try again"
            raise StoreError(msg)
        yield row
    except BaseException:
        with translated():
            outdate(pk=row.pk)
        raise
    finally:
        with translated():
            free.filter(writer=token).update(writer="")


def outdate(**which: object) -> None:
    """Invalidate every process's cache of the chosen clusters, or of all."""
    MetricCluster.objects.filter(**which).update(generation=F("generation") + 1)


def position(cluster: UUID, stream: str) -> Position:
    """See :meth:`metrics.stores.reader.MetricReader.position`."""
    row = (
        MetricPosition.objects.filter(
            cluster__cluster=cluster, cluster__erasing=False, stream=stream
        )
        .values_list("watermark", "head")
        .first()
    )
    return Position(None, None) if row is None else Position(*row)


def windows(
    cluster: UUID, stream: str, start: int, end: int, states: Sequence[str]
) -> list[Window]:
    """See :meth:`metrics.stores.reader.MetricReader.windows`."""
    rows = MetricWindow.objects.filter(
        cluster__cluster=cluster,
        cluster__erasing=False,
        stream=stream,
        end__gt=start,
        start__lt=end,
    ).order_by("start")
    if states:
        rows = rows.filter(state__in=states)
    return [Window(*row) for row in rows.values_list(*_WINDOW)]


def window_runs(cluster: UUID, stream: str, start: int, end: int) -> list[Window]:
    """See :meth:`metrics.stores.reader.MetricReader.window_runs`."""
    rows = MetricWindow.objects.filter(
        cluster__cluster=cluster, cluster__erasing=False, stream=stream
    )
    plain = Q(state="done", filled_at=None, reason="")

    def sums(first: int, last: int) -> Sums:
        found = rows.filter(plain, start__gte=first, start__lt=last).aggregate(
            first=Min("start"), last=Max("end"), seconds=Sum(F("end") - F("start")),
            got=Sum("got"), expected=Sum("expected"), attempts=Max("attempts"),
        )  # fmt: skip
        return Sums(**{name: value or 0 for name, value in found.items()})

    def windows(first: int, last: int, condition: Q = plain) -> list[Window]:
        wanted = rows.filter(condition, start__gte=first, start__lt=last).order_by("start")
        return [Window(*row) for row in wanted.values_list(*_WINDOW)]

    reaching = rows.filter(end__gt=start).order_by("end").values_list("start", flat=True)[:1]
    begin = min([start, *reaching])  # the first window may begin before the range
    return runs(windows(begin, end, ~plain), begin, end, sums=sums, windows=windows)


def put_windows(cluster: MetricCluster, stream: str, windows: Iterable[Window]) -> None:
    """Insert or replace ledger windows; (stream, start) is their key."""
    rows = [(cluster.pk, stream, *(getattr(w, name) for name in _WINDOW)) for w in windows]
    if not rows:
        return
    names = ", ".join(f'"{name}"' for name in _WINDOW)
    changes = ", ".join(f'"{name}" = excluded."{name}"' for name in _WINDOW if name != "start")
    placeholders = ", ".join(["%s"] * (2 + len(_WINDOW)))
    with connection.cursor() as cursor:
        cursor.executemany(
            f"INSERT INTO metrics_metricwindow(cluster_id, stream, {names}) VALUES({placeholders})"
            f" ON CONFLICT(cluster_id, stream, start) DO UPDATE SET {changes}",
            rows,
        )


def put_position(
    cluster: MetricCluster, stream: str, watermark: int | None, head: int | None
) -> None:
    """Move a stream's position forward; None leaves a part unchanged."""
    if watermark is None and head is None:
        return
    known, _ = MetricPosition.objects.select_for_update().get_or_create(
        cluster=cluster, stream=stream
    )
    known.watermark = _later(known.watermark, watermark)
    known.head = _later(known.head, head)
    known.save(update_fields=["watermark", "head"])


def _later(known: int | None, new: int | None) -> int | None:
    return max((ts for ts in (known, new) if ts is not None), default=None)


def clusters() -> list[UUID]:
    """Return the ids of all clusters that are not being erased."""
    rows = MetricCluster.objects.filter(erasing=False).order_by("pk")
    return list(rows.values_list("cluster", flat=True))


def forget(cluster: MetricCluster, before: int, by_kind: Mapping[Kind, int]) -> int:
    """Delete series whose newest minute is older, and ledger windows that ended before."""
    with transaction.atomic():
        gone = 0
        for kind in FIELD_NAMES:
            old = Q(kind=kind, last_ts__lt=by_kind.get(kind, before))
            rows = MetricSeries.objects.filter(old, cluster=cluster)
            gone += rows._raw_delete(rows.db)
        MetricWindow.objects.filter(cluster=cluster, end__lte=before).delete()
        if gone:
            outdate(pk=cluster.pk)
    return gone
