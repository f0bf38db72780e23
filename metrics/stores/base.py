"""What every metric store offers, and the rows that go in and out.

A store keeps three tiers (:data:`metrics.catalog.TIERS`) of rollups, the newest values of every
series, and each stream's watermark and gap ledger. Writing is idempotent: the same batch again
changes nothing, and a bucket over fewer samples never replaces one over more.

Times are Unix seconds, UTC. A bucket is labelled by its start and covers
``[start, start + width)``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol
from uuid import UUID

from metrics.catalog import Kind

WindowState = Literal["done", "gap", "lost"]
Reason = Literal[
    "", "tunnel_down", "service_down", "consent_off", "bad_response", "centre_down",
    "not_enrolled", "agent_stopped", "spool_expired", "pending",
]  # fmt: skip
"""Why a window has, or had, less than it should. ``consent_off``: the agent's owner lets nobody
reach the service. ``agent_stopped`` and ``spool_expired`` are losses at the source: it recorded
nothing then, or keeps it no longer. ``pending`` is a gap not asked for yet; "" where nothing was
ever missing. A gap that was filled keeps its reason, so that the ledger says what happened."""


class SeriesKey(NamedTuple):
    """What a series is called within its cluster.

    A named tuple: every row is looked up by its key several times, and a frozen dataclass hashes
    in Python.
    """

    kind: Kind
    ns: str
    name: str


class Cell(NamedTuple):
    """One field over one bucket; ``mean = total / n``. ``n`` >= 1.

    A named tuple, as is :class:`MinuteRow`: a fleet makes 200,000 cells a minute, and a frozen
    dataclass costs three times as much.
    """

    n: int
    total: int
    low: int
    high: int


class MinuteRow(NamedTuple):
    """All fields of one series over one minute, as a source returns it."""

    ts: int
    key: SeriesKey
    cells: tuple[Cell | None, ...]
    """In the order of :data:`metrics.catalog.FIELD_NAMES`; None = not measured."""


class CoarseRow(NamedTuple):
    """All fields of one series over one wider bucket, from a source that keeps no minutes of it.

    Read from a source's own rollups (5 minutes, an hour) where its raw data is gone.
    """

    tier: str
    """"10m" or "1h": the tier that the row enters."""
    ts: int
    """Start of the bucket, aligned to the tier's width."""
    key: SeriesKey
    cells: tuple[Cell | None, ...]
    """As in :class:`MinuteRow`; ``n`` is how many minutes the source's values stand for."""


@dataclass(frozen=True, slots=True)
class SeriesInfo:
    """What else is known of a series; the newest wins."""

    key: SeriesKey
    node: str = ""
    """The node that a pod runs on; "" for others."""
    attrs: Mapping[str, str] = field(default_factory=dict)
    """Short facts for people: phase, workload, image, role, device, fs type. Never identity."""


@dataclass(frozen=True, slots=True)
class Window:
    """One line of the gap ledger: an aligned range of one stream and what became of it.

    ``got`` and ``expected`` count minutes. ``attempts`` counts pulls that included the window.
    """

    start: int
    end: int
    state: WindowState
    got: int
    expected: int
    attempts: int
    reason: Reason
    detail: str
    filled_at: int | None
    """When a former gap was filled; None for windows that came in time or are still open."""
    resolution: int = 60
    """The finest step in seconds at which the range is held: wider where the source's raw data
    was gone and its own rollups filled the gap."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What one pull writes in one transaction.

    Attributes:
        rows: minutes of nodes, filesystems and pods; cluster rows are made by the store's writer.
        infos: series seen in this batch.
        windows: ledger lines to put; (start) is their key.
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
    """Values beyond :data:`metrics.rollups.LARGEST`, no integers, or contradicting themselves."""
    skipped_rows: int = 0
    """Rows of series beyond the daily limit of new series, or with unusable names."""
    detail: str = ""
    """One line for people; "" when everything was stored."""


@dataclass(frozen=True, slots=True)
class Position:
    """How far a stream is: contiguous up to ``watermark``, newest data up to ``head``."""

    watermark: int | None
    head: int | None


@dataclass(frozen=True, slots=True)
class Columns:
    """One field of one series over time, one entry a bucket that has data, ascending.

    ``n`` counts minutes within the bucket (1 in the 1m tier).
    """

    t: list[int]
    n: list[int]
    total: list[int]
    low: list[int]
    high: list[int]


@dataclass(frozen=True, slots=True)
class LastRow:
    """The newest minute of one series: mean values in catalogue order, None = not measured."""

    key: SeriesKey
    ts: int
    node: str
    attrs: Mapping[str, str]
    values: tuple[int | None, ...]


class StoreError(Exception):
    """The store cannot do it; the message names the file or bucket and the reason."""


class MetricStore(Protocol):
    """The interface of a store. Methods may block on disk or network; none is async.

    ``cluster`` is always the id of a cluster that the caller was allowed to use.
    """

    def write(self, cluster: UUID, stream: str, batch: Batch) -> WriteResult:
        """Write a batch in one transaction: rows, all rollups, last values, ledger, watermark.

        Idempotent. Cluster-level minutes are recomputed from all nodes stored for each touched
        minute, and the 10m and 1h buckets from all minutes stored for each touched bucket.

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
        """Return ledger lines that overlap ``[start, end)``, ascending; of ``states`` if given."""

    def read(
        self, cluster: UUID, key: SeriesKey, field: str, tier: str, start: int, end: int
    ) -> Columns:
        """Return one field's buckets with ``start <= t < end``. Empty if there is none."""

    def read_many(
        self, cluster: UUID, kind: Kind, field: str, tier: str, start: int, end: int
    ) -> dict[SeriesKey, Columns]:
        """Return one field of every series of a kind (heat strips, top lists)."""

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

    def expire(self, cluster: UUID, tier: str, before: int, *, limit: int = 50_000) -> int:
        """Delete at most ``limit`` buckets older than ``before``; return how many went."""

    def forget(self, cluster: UUID, before: int) -> int:
        """Delete series, their last values and ledger lines that ended before ``before``.

        To be called after :meth:`expire`, with the bound of the longest tier.

        Returns:
            How many series went.
        """

    def erase(self, cluster: UUID) -> None:
        """Delete everything of a cluster. Its id may be written again afterwards, from nothing."""

    def clusters(self) -> Iterable[UUID]:
        """Return the ids of all clusters that the store knows."""

    def check(self) -> str:
        """Return "ok", or what is wrong with the store (integrity, reachability). May be slow."""

    def close(self) -> None:
        """Release what this process holds open; a later call opens it again."""
