"""Tables of an export: rows are written as Parquet or CSV, block by block.

Columns of numbers are named ``<field>_minutes``, ``_sum``, ``_min`` and ``_max``: how many minutes
were measured, the sum of their means, and the extremes; the mean is sum / minutes. Empty means not
measured, never 0.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import islice
from typing import Any, BinaryIO, Literal, Protocol, TypeVar

from clusters.models import ClusterEvent
from metrics.series.catalog import FIELD_NAMES, Kind
from metrics.series.windows import Window
from metrics.stores.copier import StoredRow, StoredSeries
from opscenter.core.csv_files import CsvWriter
from opscenter.core.text import iso_utc

Format = Literal["parquet", "csv"]
ColumnType = Literal["time", "text", "number"]
Columns = Sequence[tuple[str, ColumnType]]
Row = TypeVar("Row")

BLOCK_ROWS = 5_000
"""Rows that are in memory as Python objects at a time."""
GROUP_ROWS = 50_000
"""Rows of a Parquet row group, which are in memory as plain columns."""

WINDOW_COLUMNS: Columns = (
    ("start", "time"), ("end", "time"), ("state", "text"), ("got_minutes", "number"),
    ("expected_minutes", "number"), ("attempts", "number"), ("reason", "text"),
    ("detail", "text"), ("filled_at", "time"), ("resolution_seconds", "number"),
)  # fmt: skip
SERIES_COLUMNS: Columns = (
    ("kind", "text"), ("namespace", "text"), ("name", "text"), ("node", "text"),
    ("attributes", "text"), ("first", "time"), ("last", "time"),
)  # fmt: skip

HISTORY_COLUMNS: Columns = (
    ("key", "text"), ("level", "text"), ("text", "text"), ("began", "time"),
    ("began_at_least", "text"), ("began_known", "time"), ("ended", "time"),
    ("ended_known", "time"), ("ending", "text"),
)  # fmt: skip


class Table(Protocol):
    """A table that is being written."""

    def write(self, columns: Sequence[Sequence[Any]]) -> None:
        """Append rows, given as columns of the same length."""

    def close(self) -> None:
        """Write the rest; nothing may be written afterwards."""


def row_columns(kind: Kind) -> Columns:
    """Return the columns of a table of numbers."""
    head: list[tuple[str, ColumnType]] = [
        ("time", "time"), ("namespace", "text"), ("name", "text"), ("minutes", "number"),
    ]  # fmt: skip
    for field in FIELD_NAMES[kind]:
        head += [(f"{field}_{part}", "number") for part in ("minutes", "sum", "min", "max")]
    return head


def row_values(kind: Kind, rows: Sequence[StoredRow]) -> list[list[Any]]:
    """Return rows as the columns that :func:`row_columns` names."""
    found: list[list[Any]] = [
        [row.ts for row in rows],
        [row.key.ns for row in rows],
        [row.key.name for row in rows],
        [row.n for row in rows],
    ]
    for index in range(len(FIELD_NAMES[kind])):
        cells = [row.cells[index] for row in rows]
        found += [[None if cell is None else cell[part] for cell in cells] for part in range(4)]
    return found


def window_values(windows: Iterable[Window]) -> list[list[Any]]:
    """Return ledger windows as columns."""
    rows = [
        (w.start, w.end, w.state, w.got, w.expected, w.attempts, w.reason, w.detail, w.filled_at,
         w.resolution)
        for w in windows
    ]  # fmt: skip
    return [list(column) for column in zip(*rows, strict=True)]


def series_values(series: Iterable[StoredSeries]) -> list[list[Any]]:
    """Return series as columns; attributes as ``key=value`` separated by spaces."""
    rows = [
        (one.key.kind, one.key.ns, one.key.name, one.node,
         " ".join(f"{key}={value}" for key, value in sorted(one.attrs.items())), one.first_ts,
         one.last_ts + 60)
        for one in series
    ]  # fmt: skip
    return [list(column) for column in zip(*rows, strict=True)]


def history_values(events: Iterable[ClusterEvent]) -> list[list[Any]]:
    """Return rows of the history as columns; ``began_at_least`` is "yes" or empty."""
    rows = [
        (one.key, one.level, one.text, _unix(one.began_at), "yes" if one.began_at_least else "",
         _unix(one.began_known_at), _unix(one.ended_at), _unix(one.ended_known_at), one.ending)
        for one in events
    ]  # fmt: skip
    return [list(column) for column in zip(*rows, strict=True)]


def _unix(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp())


def blocks(rows: Iterable[Row]) -> Iterable[list[Row]]:
    """Yield rows in lists of at most :data:`BLOCK_ROWS`."""
    left = iter(rows)
    while block := list(islice(left, BLOCK_ROWS)):
        yield block


def open_table(form: Format, stream: BinaryIO, columns: Columns) -> Table:
    """Return a new table that writes to a stream, which the caller closes afterwards."""
    return ParquetTable(stream, columns) if form == "parquet" else CsvTable(stream, columns)


class CsvTable:
    """A table as CSV: UTF-8, with a header line, times as ISO 8601 UTC.

    No cell can be read as a formula by a spreadsheet: such text is prefixed with an apostrophe.
    """

    def __init__(self, stream: BinaryIO, columns: Columns) -> None:
        kinds = [kind for _, kind in columns]
        self._times = {at for at, kind in enumerate(kinds) if kind == "time"}
        self._numbers = {at for at, kind in enumerate(kinds) if kind == "number"}
        self._text = io.TextIOWrapper(stream, "utf-8", newline="", write_through=False)
        self._writer = CsvWriter(self._text)
        self._writer.row(name for name, _ in columns)

    def write(self, columns: Sequence[Sequence[Any]]) -> None:
        """Append rows, given as columns of the same length."""
        shown = [
            _as_times(column) if at in self._times else column for at, column in enumerate(columns)
        ]
        self._writer.columns(shown, self._numbers)

    def close(self) -> None:
        """Write the rest and leave the stream open."""
        self._text.flush()
        self._text.detach()


def _as_times(column: Sequence[Any]) -> Sequence[Any]:
    known: dict[Any, str | None] = {None: None}
    for value in column:
        if value not in known:
            known[value] = iso_utc(value)
    return [known[value] for value in column]


class ParquetTable:
    """A table as Parquet: times as UTC timestamps, text as dictionaries, zstd."""

    def __init__(self, stream: BinaryIO, columns: Columns) -> None:
        # Imported only when used: the library takes 0.2 s and 60 MB.
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._pa = pa
        types = {"time": pa.timestamp("s", tz="UTC"), "text": pa.string(), "number": pa.int64()}
        self._schema = pa.schema([(name, types[kind]) for name, kind in columns])
        self._writer = pq.ParquetWriter(stream, self._schema, compression="zstd")
        self._waiting: list[Any] = []
        self._rows = 0

    def write(self, columns: Sequence[Sequence[Any]]) -> None:
        """Append rows, given as columns of the same length."""
        arrays = [
            self._pa.array(column, type=field.type)
            for field, column in zip(self._schema, columns, strict=True)
        ]
        batch = self._pa.record_batch(arrays, schema=self._schema)
        self._waiting.append(batch)
        self._rows += batch.num_rows
        if self._rows >= GROUP_ROWS:
            self._flush()

    def close(self) -> None:
        """Write the rest, and the footer; leave the stream open."""
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if self._waiting:
            self._writer.write_table(self._pa.Table.from_batches(self._waiting))
            self._waiting, self._rows = [], 0
