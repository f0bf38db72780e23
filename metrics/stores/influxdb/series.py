"""Series and their newest minutes in the InfluxDB store's part of Django's database."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import orjson
from django.db import connection
from django.db.models import F, Q, QuerySet
from django.db.models.functions import Collate, Lower

from metrics.models.influxdb_store import MetricCluster, MetricSeries
from metrics.series.catalog import FIELD_NAMES, Kind
from metrics.series.rows import SeriesKey
from metrics.series.windows import DAY
from metrics.stores.copier import StoredSeries
from metrics.stores.errors import StoreError
from metrics.stores.influxdb.ledger import outdate
from metrics.stores.influxdb.recent import Recent
from metrics.stores.names import is_storable
from metrics.stores.reader import LastRow

MAX_NEW_SERIES_PER_DAY = 20_000
"""As in the SQLite store."""

_ACTIVE_SECONDS = 6 * 3600
_KEPT_WRITES = 16


def text(name: str) -> str:
    """Return a name as the database stores it: PostgreSQL's text cannot contain NUL."""
    return name.replace("\x1a", "\x1a1").replace("\0", "\x1a0")


def untext(stored: str) -> str:
    """Return the name that a stored text stands for; undoes :func:`text`."""
    return stored.replace("\x1a0", "\0").replace("\x1a1", "\x1a")


def json_text(attrs: Any) -> str:
    """Return attributes as text; equal attributes give equal text."""
    return orjson.dumps(dict(attrs), option=orjson.OPT_SORT_KEYS).decode()


@dataclass(slots=True)
class Entry:
    """One series during a write; ``last_ts`` is None if it has no newest minute yet."""

    first_ts: int
    last_ts: int | None = None
    last_n: int = -1
    node: str = ""
    attrs: str = "{}"
    numbers: str = "[]"


@dataclass(slots=True)
class Session:
    """The series of a cluster during one write, and their changes."""

    cluster: MetricCluster
    entries: dict[SeriesKey, Entry]
    recent: Recent
    changed: set[SeriesKey] = field(default_factory=set)
    problem: str = ""
    limited: bool = True
    alone: bool = False
    """Whether, after :meth:`save`, no other process has changed the cluster meanwhile."""
    _made: int = 0

    def seen(self, key: SeriesKey, ts: int) -> bool:
        """Record that a series has data at ``ts``; create it if it is new.

        Returns:
            Whether its rows can be stored; :attr:`problem` says why not.
        """
        entry = self.entries.get(key) or self._find(key)
        if entry is None:
            if not self._may_make(key):
                return False
            self.entries[key] = Entry(first_ts=ts)
            self.changed.add(key)
            self._made += 1
        elif ts < entry.first_ts:
            entry.first_ts = ts
            self.changed.add(key)
        return True

    def inform(self, key: SeriesKey, newest: int, node: str, attrs: str) -> None:
        """Set a series' node and attributes, unless it already has newer data."""
        entry = self.entries.get(key)
        if entry is None or newest < (entry.last_ts or 0):
            return
        if (entry.node, entry.attrs) != (node, attrs):
            entry.node, entry.attrs = node, attrs
            self.changed.add(key)

    def describe(self, key: SeriesKey, node: str, attrs: Mapping[str, str]) -> None:
        """Set node and attributes as read from another store."""
        entry, known = self.entries[key], json_text(attrs)
        if (entry.node, entry.attrs) != (node, known):
            entry.node, entry.attrs = node, known
            self.changed.add(key)

    def last(self, key: SeriesKey, ts: int, n: int, numbers: Sequence[int | None]) -> None:
        """Set a minute as the newest one if it is; n -1 stands for a wider bucket."""
        entry = self.entries[key]
        if entry.last_ts is not None:
            if n < 0:
                # A wider bucket only shows that there was data: it never replaces a minute.
                if entry.last_n >= 0 or ts <= entry.last_ts:
                    return
            elif (ts, n) < (entry.last_ts, entry.last_n):
                return
        changed = orjson.dumps(numbers).decode()
        if (entry.last_ts, entry.last_n, entry.numbers) != (ts, n, changed):
            entry.last_ts, entry.last_n, entry.numbers = ts, n, changed
            self.changed.add(key)

    def _find(self, key: SeriesKey) -> Entry | None:
        """Return a stored series that is not among those of the last hours; None if unknown."""
        if not is_storable(key):
            return None
        rows = MetricSeries.objects.filter(kind=key.kind, ns=text(key.ns), name=text(key.name))
        found = _entries(rows.filter(cluster=self.cluster)).get(key)
        if found is not None:
            self.entries[key] = found
        return found

    def _may_make(self, key: SeriesKey) -> bool:
        if not is_storable(key):
            self.problem = "a name is too long or not text"
            return False
        today = int(time.time()) // DAY
        if self.cluster.new_day != today:
            self.cluster.new_day, self.cluster.new_count = today, 0
        if self.limited and self.cluster.new_count + self._made >= MAX_NEW_SERIES_PER_DAY:
            self.problem = f"more than {MAX_NEW_SERIES_PER_DAY} new series in a day"
            return False
        return True

    def save(self, minutes: Sequence[int] | None = None) -> None:
        """Write the changes, within the caller's transaction.

        Args:
            minutes: starts of the written minutes in Unix seconds; None if not only minutes were
                written.
        """
        # In the order of their rows, so that newest values come in the same order from both stores.
        changed = {key: entry for key, entry in self.entries.items() if key in self.changed}
        put_entries(self.cluster, changed)
        row, begun = self.cluster, self.cluster.generation
        row.new_count += self._made if self.limited else 0
        outdate(pk=row.pk)
        row.refresh_from_db(fields=["generation"])
        self.alone = row.generation == begun + 1
        if self.alone and minutes is not None:
            span = (min(minutes), max(minutes)) if minutes else (0, 0)
            row.written = [*row.written[-_KEPT_WRITES:], (row.generation, *span)]
        else:
            row.written = []
        row.save(update_fields=["new_day", "new_count", "written"])


@dataclass(slots=True)
class _Known:
    """A process's cache of a cluster, valid for one generation of it."""

    pk: int
    generation: int
    entries: dict[SeriesKey, Entry]
    recent: Recent


class Memory:
    """One process's cache of clusters, so that a pull need not read them again."""

    _SERIES = 100_000
    """With more series, about 10 kB each, the cache is cleared."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._known: dict[UUID, _Known] = {}
        self._clock = clock

    def begin(self, cluster: MetricCluster, *, limited: bool = True) -> Session:
        """Return a session with the active series of a cluster, which finds others itself.

        Its caller holds :func:`writing`.

        Args:
            cluster: the cluster.
            limited: whether the daily limit of new series applies, as it does for pulls.
        """
        known = self._known.pop(cluster.cluster, None)
        if known is not None and (known.pk, known.generation) == (cluster.pk, cluster.generation):
            return Session(cluster, known.entries, known.recent, limited=limited)
        active = MetricSeries.objects.filter(
            cluster=cluster, last_ts__gte=self._clock() - _ACTIVE_SECONDS
        )
        recent = Recent()
        if known is not None and known.pk == cluster.pk and limited:
            spans = _written_since(cluster, known.generation)
            if spans is not None:
                recent = known.recent
                recent.fall_behind(spans)
        return Session(cluster, _entries(active), recent, limited=limited)

    def learn(self, session: Session) -> None:
        """Remember a session after its commit."""
        if not session.alone:
            return
        if sum(len(known.entries) for known in list(self._known.values())) > self._SERIES:
            self._known.clear()
        row = session.cluster
        known = _Known(row.pk, row.generation, session.entries, session.recent)
        self._known[row.cluster] = known


def _written_since(cluster: MetricCluster, generation: int) -> list[tuple[int, int]] | None:
    """Return the ranges of minutes written since; None if not only minutes were written."""
    spans = [(first, last) for at, first, last in cluster.written if at > generation]
    return spans if len(spans) == cluster.generation - generation else None


def put_entries(cluster: MetricCluster, entries: dict[SeriesKey, Entry]) -> None:
    """Insert or replace series; one statement for all."""
    if not entries:
        return
    rows = [
        (
            cluster.pk, key.kind, text(key.ns), text(key.name), text(entry.node),
            entry.attrs.replace("\\u0000", "\\ufffd"), entry.first_ts, entry.last_ts,
            entry.last_n, entry.numbers,
        )
        for key, entry in entries.items()
    ]  # fmt: skip
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO metrics_metricseries(cluster_id, kind, ns, name, node, attrs, first_ts,"
            " last_ts, last_n, numbers) VALUES(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
            " ON CONFLICT(cluster_id, kind, ns, name) DO UPDATE SET node = excluded.node,"
            " attrs = excluded.attrs, first_ts = excluded.first_ts, last_ts = excluded.last_ts,"
            " last_n = excluded.last_n, numbers = excluded.numbers",
            rows,
        )


def last(cluster: UUID, kind: Kind, since: int) -> list[LastRow]:
    """See :meth:`metrics.stores.reader.MetricReader.last`."""
    rows = _last_rows([cluster], kind).filter(last_ts__gte=since).order_by("pk")
    return [row for _, row in _found(rows)]


def last_one(cluster: UUID, key: SeriesKey) -> LastRow | None:
    """See :meth:`metrics.stores.reader.MetricReader.last_one`."""
    if not is_storable(key):
        return None
    rows = _last_rows([cluster], key.kind).filter(ns=text(key.ns), name=text(key.name))
    return next((row for _, row in _found(rows)), None)


def find(
    clusters: Iterable[UUID], kind: Kind, part: str, *, since: int, limit: int, order: str
) -> list[tuple[UUID, LastRow]]:
    """See :meth:`metrics.stores.reader.MetricReader.find`."""
    if order and order not in FIELD_NAMES[kind]:
        msg = f"no {kind} field {order}"
        raise StoreError(msg)
    binary = "C" if connection.vendor == "postgresql" else "BINARY"
    rows = _last_rows(clusters, kind).filter(last_ts__gte=since)
    # With this collation, both databases lower only ASCII letters, and order by code points.
    rows = rows.annotate(by_ns=Collate("ns", binary), by_name=Collate("name", binary))
    if part:
        wanted = _lower_ascii(text(part))
        rows = rows.annotate(low_ns=Lower("by_ns"), low_name=Lower("by_name")).filter(
            Q(low_ns__contains=wanted) | Q(low_name__contains=wanted)
        )
    if order:
        first = F(f"numbers__{FIELD_NAMES[kind].index(order)}").desc(nulls_last=True)
    else:
        first = F("last_ts").desc()
    return list(_found(rows.order_by(first, "by_ns", "by_name", "cluster_id")[:limit]))


def first_seen(cluster: UUID, key: SeriesKey) -> int | None:
    """See :meth:`metrics.stores.reader.MetricReader.first_seen`."""
    if not is_storable(key):
        return None
    return (
        MetricSeries.objects.filter(cluster__cluster=cluster, cluster__erasing=False)
        .filter(kind=key.kind, ns=text(key.ns), name=text(key.name))
        .values_list("first_ts", flat=True)
        .first()
    )


def series(cluster: UUID) -> list[StoredSeries]:
    """See :meth:`metrics.stores.copier.MetricCopier.series`."""
    rows = MetricSeries.objects.filter(cluster__cluster=cluster, cluster__erasing=False)
    names = ("kind", "ns", "name", "node", "attrs", "first_ts", "last_ts")
    found = [
        StoredSeries(
            _key(kind, ns, name), untext(node), attrs, first, first if newest is None else newest
        )
        for kind, ns, name, node, attrs, first, newest in rows.values_list(*names)
    ]
    return sorted(found, key=lambda entry: entry.key)


def _entries(chosen: QuerySet[MetricSeries]) -> dict[SeriesKey, Entry]:
    rows = chosen.values_list(
        "kind", "ns", "name", "first_ts", "last_ts", "last_n", "node", "attrs", "numbers"
    )
    return {
        _key(kind, ns, name): Entry(
            first, last, n, untext(node), json_text(attrs), orjson.dumps(numbers).decode()
        )
        for kind, ns, name, first, last, n, node, attrs, numbers in rows.iterator(2000)
    }


def _last_rows(clusters: Iterable[UUID], kind: Kind) -> Any:
    return MetricSeries.objects.filter(
        cluster__cluster__in=list(clusters),
        cluster__erasing=False,
        kind=kind,
        last_ts__isnull=False,
    )


def _found(rows: Any) -> Iterator[tuple[UUID, LastRow]]:
    names = ("cluster__cluster", "kind", "ns", "name", "last_ts", "node", "attrs", "numbers")
    for cluster, kind, ns, name, ts, node, attrs, numbers in rows.values_list(*names):
        fields = len(FIELD_NAMES[kind])
        values = tuple(numbers[:fields]) + (None,) * (fields - len(numbers))
        yield cluster, LastRow(_key(kind, ns, name), ts, untext(node), attrs, values)


def _key(kind: Any, ns: str, name: str) -> SeriesKey:
    return SeriesKey(kind, untext(ns), untext(name))


def _lower_ascii(part: str) -> str:
    return "".join(chr(ord(c) + 32) if "A" <= c <= "Z" else c for c in part)
