"""What every metric store offers, and the rows that go in and out.

A store keeps three tiers (:data:`metrics.series.catalog.TIERS`) of rollups, the newest values of
every series, and each stream's watermark and gap ledger. Writing is idempotent: the same batch
again changes nothing, and a bucket over fewer samples never replaces one over more.

Times are Unix seconds, UTC. A bucket is labelled by its start and covers
``[start, start + width)``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, NamedTuple, Protocol
from uuid import UUID

from metrics.series.catalog import Kind
from metrics.series.rows import Cell, CoarseRow, Columns, MinuteRow, SeriesInfo, SeriesKey
from metrics.series.windows import Position, Window

NO_BOUNDS: Mapping[Kind, int] = MappingProxyType({})
"""For :meth:`MetricStore.forget`: no kind has another bound."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What one pull writes in one transaction.

    Attributes:
        rows: minutes of nodes, filesystems and pods; cluster rows are made by the store's writer.
        infos: series seen in this batch.
        windows: ledger windows to put; (start) is their key.
        watermark: new end of the contiguous data, or None to leave it; never moves back, so that
            a late duplicate of an older pull does no harm.
        head: new end of the newest data, or None to leave it; never moves back.
        coarse: wider buckets of nodes, filesystems and pods, where the source has no minutes.
    """

    rows: Sequence[MinuteRow] = ()
    infos: Sequence[SeriesInfo] = ()
    windows: Sequence[Window] = ()
    watermark: int | None = None
    head: int | None = None
    coarse: Sequence[CoarseRow] = ()


@dataclass(frozen=True, slots=True)
class WriteResult:
    """What a write did not store, because the cluster sent nonsense or too much of it."""

    refused_cells: int = 0
    """Values beyond :data:`metrics.series.rollups.LARGEST`, fractions, or in contradiction."""
    skipped_rows: int = 0
    """Rows of series beyond the daily limit of new series, or with unusable names."""
    detail: str = ""
    """One line for people; "" when everything was stored."""


@dataclass(frozen=True, slots=True)
class LastRow:
    """The newest minute of one series: mean values in catalogue order, None = not measured.

    A series of which only wider buckets are known has the start of its newest one, and no values.
    """

    key: SeriesKey
    ts: int
    node: str
    attrs: Mapping[str, str]
    values: tuple[int | None, ...]


class TopRow(NamedTuple):
    """One series of a top list: its field over the whole asked range."""

    cluster: UUID
    key: SeriesKey
    n: int
    """Minutes that have the field, >= 1."""
    total: int
    high: int | None
    """The highest value that is known; None if none is."""


class StoredRow(NamedTuple):
    """One row as it is stored, to be copied and counted."""

    ts: int
    key: SeriesKey
    n: int
    """In the 1m tier how many samples (of a cluster: nodes) the minute has, else minutes."""
    cells: tuple[Cell | None, ...]
    """In catalogue order; None = not measured."""


@dataclass(frozen=True, slots=True)
class StoredSeries:
    """A series as the store knows it.

    ``first_ts`` is the first minute ever stored, ``last_ts`` that of its :class:`LastRow`, or
    the first one if it has none.
    """

    key: SeriesKey
    node: str
    attrs: Mapping[str, str]
    first_ts: int
    last_ts: int


class StoreError(Exception):
    """The store cannot do it; the message names the file or bucket and the reason."""


class MetricStore(Protocol):
    """The interface of a store. Methods may block on disk or network; none is async.

    ``cluster`` is always the id of a cluster that the caller was allowed to use.
    """

    def write(self, cluster: UUID, stream: str, batch: Batch) -> WriteResult:
        """Write a batch in one transaction: rows, all rollups, last values, ledger, watermark.

        Idempotent. Cluster-level minutes are recomputed from all nodes stored for each touched
        minute, and the 10m and 1h buckets from all minutes stored for each touched bucket. Coarse
        rows enter their tier as they are, unless a bucket over more minutes is there; the
        cluster's bucket is made from those of its nodes
        (:func:`metrics.series.rollups.cluster_bucket`), and hours from their 10-minute buckets.
        Coarse rows leave the last values alone.

        Returns:
            What was refused; the rest of the batch is stored.

        Raises:
            StoreError: nothing of the batch was written.
        """

    def position(self, cluster: UUID, stream: str) -> Position:
        """Return how far the stream is; both None before the first batch."""

    def windows(
        self, cluster: UUID, stream: str, start: int, end: int, *, states: Sequence[str] = ()
    ) -> list[Window]:
        """Return windows that overlap ``[start, end)``, ascending; only of ``states`` if given."""

    def window_runs(self, cluster: UUID, stream: str, start: int, end: int) -> list[Window]:
        """Return the ledger as :meth:`windows` does, but quickly for years.

        Lines that say only that their minutes came in time
        (:func:`metrics.stores.window_runs.is_plain`) and follow one another without a hole are one,
        their minutes added up.
        """

    def read(
        self, cluster: UUID, key: SeriesKey, field: str, tier: str, start: int, end: int
    ) -> Columns:
        """Return one field's buckets with ``start <= t < end``. Empty if there is none."""

    def read_many(
        self, cluster: UUID, kind: Kind, field: str, tier: str, start: int, end: int
    ) -> dict[SeriesKey, Columns]:
        """Return one field of every series of a kind (heat strips, top lists)."""

    def read_fields(
        self, cluster: UUID, key: SeriesKey, fields: Sequence[str], tier: str, start: int, end: int
    ) -> dict[str, Columns]:
        """Return several fields of one series, each as :meth:`read` does, at less cost."""

    def top(
        self,
        clusters: Iterable[UUID],
        kind: Kind,
        field: str,
        tier: str,
        start: int,
        end: int,
        *,
        limit: int,
        by: Literal["mean", "max"] = "mean",
    ) -> list[TopRow]:
        """Return the series of several clusters with the largest field over ``[start, end)``.

        Largest first, by the mean over the minutes that have the field or by the highest value;
        equals by ns, name and cluster. By the highest value, series that have none known are
        left out.
        """

    def last(self, cluster: UUID, kind: Kind, *, since: int = 0) -> list[LastRow]:
        """Return the newest minute of each series of a kind with ``ts >= since``."""

    def last_one(self, cluster: UUID, key: SeriesKey) -> LastRow | None:
        """Return the newest minute of one series; None if it was never seen."""

    def find(
        self,
        clusters: Iterable[UUID],
        kind: Kind,
        text: str,
        *,
        since: int = 0,
        limit: int = 100,
        order: str = "",
    ) -> list[tuple[UUID, LastRow]]:
        """Return series of several clusters whose ns or name contains ``text``.

        The case of ASCII letters does not matter; "" finds every series with ``ts >= since``.
        ``order`` is a field, largest first; "" puts the newest first, then goes by name.
        """

    def first_seen(self, cluster: UUID, key: SeriesKey) -> int | None:
        """Return the first minute of a series ever stored; None if it was never seen."""

    def expire(
        self, cluster: UUID, kind: Kind, tier: str, before: int, *, limit: int = 50_000
    ) -> int:
        """Delete buckets of a kind older than ``before``, oldest first; return how many went.

        About ``limit`` of them: sealed buckets go in whole pieces, so that it can be somewhat
        more. Less than ``limit`` means that none is left.
        """

    def forget(self, cluster: UUID, before: int, by_kind: Mapping[Kind, int] = NO_BOUNDS) -> int:
        """Delete series, their last values and ledger windows that ended before ``before``.

        To be called after :meth:`expire`, with the bound of the longest tier. ``by_kind`` has
        other bounds for the series of some kinds, where those are kept for less.

        Returns:
            How many series went.
        """

    def erase(self, cluster: UUID) -> None:
        """Delete everything of a cluster. Its id may be written again afterwards, from nothing."""

    def clusters(self) -> Iterable[UUID]:
        """Return the ids of all clusters that the store knows."""

    def series(self, cluster: UUID) -> list[StoredSeries]:
        """Return all series of a cluster, by kind, ns and name."""

    def put_series(self, cluster: UUID, series: Iterable[StoredSeries]) -> None:
        """Make or change series as another store knows them; earlier first minutes win."""

    def put_last(self, cluster: UUID, rows: Iterable[LastRow]) -> None:
        """Put the newest minutes as another store knows them; what is newer here stays."""

    def counts(self, cluster: UUID, kind: Kind, tier: str, start: int, end: int) -> tuple[int, int]:
        """Return how many rows there are with ``start <= ts < end``, and their checksum.

        The checksum is :func:`metrics.stores.checksum.add` over the rows, in any order: two
        stores that hold the same rows give the same.
        """

    def scan(
        self, cluster: UUID, kind: Kind, tier: str, start: int, end: int
    ) -> Iterator[StoredRow]:
        """Yield the rows with ``start <= ts < end``, ascending by ts, then by ns and name.

        Reads block by block, so that nothing is held up while the caller works. Rows that are
        written meanwhile may be among them or not.
        """

    def load(self, cluster: UUID, kind: Kind, tier: str, rows: Iterable[StoredRow]) -> int:
        """Store rows as they are, and nothing else: no rollups, last values or cluster rows.

        A row over less (``n``) than the stored one changes nothing. Series that are not known
        are made. One transaction.

        Returns:
            How many rows were given.
        """

    def maintain(self, now: int) -> str:
        """Do what housekeeping is due, in short steps; return one line for the log.

        Called every ten minutes, by one process at a time.
        """

    def ping(self) -> None:
        """Check within seconds that the store can be asked.

        Raises:
            StoreError: it cannot.
        """

    def warnings(self) -> list[str]:
        """Return what somebody should look at though the store works; mostly nothing.

        Names no cluster and no file: anybody may read it.
        """

    def check(self) -> str:
        """Return "ok", or what is wrong with the store (integrity, reachability). May be slow."""

    def close(self) -> None:
        """Release what this process holds open; a later call opens it again."""
