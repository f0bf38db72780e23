"""The part of a metric store that pages and the API use: buckets, newest values, the ledger."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol
from uuid import UUID

from metrics.series.catalog import Kind
from metrics.series.rows import Columns, SeriesKey
from metrics.series.windows import Position, Window


@dataclass(frozen=True, slots=True)
class LastRow:
    """The newest minute of one series: mean values in catalogue order, None = not measured.

    A series with only wider buckets has the start of its newest one, and no values.
    """

    key: SeriesKey
    ts: int
    node: str
    attrs: Mapping[str, str]
    values: tuple[int | None, ...]


class TopRow(NamedTuple):
    """One series of a top list: its field over the whole requested range."""

    cluster: UUID
    key: SeriesKey
    n: int
    """Minutes that have the field, >= 1."""
    total: int
    high: int | None
    """The highest known value; None if there is none."""


class MetricReader(Protocol):
    """Reads stored data; changes nothing."""

    def position(self, cluster: UUID, stream: str) -> Position:
        """Return the stream's position; both None before the first batch."""

    def windows(
        self, cluster: UUID, stream: str, start: int, end: int, *, states: Sequence[str] = ()
    ) -> list[Window]:
        """Return windows that overlap ``[start, end)``, ascending; only of ``states`` if given."""

    def window_runs(self, cluster: UUID, stream: str, start: int, end: int) -> list[Window]:
        """Return the ledger as :meth:`windows` does, but quickly for years.

        Consecutive windows whose minutes all came in time
        (:func:`metrics.stores.window_runs.is_plain`) are joined into one, their minutes added up.
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
        """Return several fields of one series, each as :meth:`read` does, but cheaper."""

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
        equal ones by ns, name and cluster. By the highest value, series without a known one are
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
        ``order`` is a field, largest first; "" for the newest first, then by name.
        """

    def first_seen(self, cluster: UUID, key: SeriesKey) -> int | None:
        """Return the first minute of a series ever stored; None if it was never seen."""

    def counts(self, cluster: UUID, kind: Kind, tier: str, start: int, end: int) -> tuple[int, int]:
        """Return how many rows there are with ``start <= ts < end``, and their checksum.

        The checksum is :func:`metrics.stores.checksum.add` over the rows, in any order: two
        stores that hold the same rows give the same.
        """

    def ping(self) -> None:
        """Check within seconds that the store answers.

        Raises:
            StoreError: it does not.
        """
