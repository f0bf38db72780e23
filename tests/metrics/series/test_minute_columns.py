"""Minutes in columns: the same rows, and the same numbers in the store, as minutes in rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics.series.catalog import FIELD_NAMES, TIERS, Kind
from metrics.series.minute_columns import (
    FieldColumn,
    Minutes,
    MinuteTable,
    count_at,
    has_value_at,
    newest_of,
    rows_at,
)
from metrics.series.rollups import LARGEST, MAX_SAMPLES
from metrics.series.rows import Cell, MinuteRow, SeriesInfo, SeriesKey
from metrics.stores import StoreError
from metrics.stores.sqlite.store import SqliteStore
from metrics.stores.writer import Batch
from tests.examples import examples

T0 = 1_700_000_000 // 3600 * 3600
CLUSTER = UUID(int=1)
KINDS: tuple[Kind, ...] = ("node", "filesystem", "pod")

values = st.one_of(
    st.integers(-1000, 1000),
    st.sampled_from([0, LARGEST, -LARGEST, LARGEST + 1, 1 << 63, True, 1.5, "7"]),
)
cells = st.one_of(
    st.none(),
    st.integers(-50, 50).map(lambda v: Cell(1, v, v, v)),
    st.tuples(st.sampled_from([1, 2, 3, 4, 0, -1, MAX_SAMPLES + 1]), values, values, values).map(
        lambda parts: Cell(*parts)
    ),
)


@st.composite
def tables(draw: st.DrawFn) -> MinuteTable:
    kind = draw(st.sampled_from(KINDS))
    keys = [SeriesKey(kind, "" if kind == "node" else "ns", f"s{at}") for at in range(3)]
    places = draw(
        st.lists(st.tuples(st.integers(0, 25), st.integers(0, 2)), unique=True, max_size=12)
    )
    times, series = [T0 + 60 * minute for minute, _ in places], [at for _, at in places]
    return MinuteTable(kind, keys, times, series, [_column(draw, len(places)) for _ in _of(kind)])


def _of(kind: Kind) -> Sequence[str]:
    return FIELD_NAMES[kind]


def _column(draw: st.DrawFn, rows: int) -> FieldColumn | None:
    if draw(st.booleans()):
        return None
    one = draw(st.one_of(st.just(None), cells))
    drawn = [one] * rows if one else draw(st.lists(cells, min_size=rows, max_size=rows))
    parts = [list(cell) if cell else [None] * 4 for cell in drawn]
    return FieldColumn(*(list(part) for part in zip(*parts, strict=True))) if parts else (
        FieldColumn([], [], [], [])
    )  # fmt: skip


def everything(path: Path, rows: Sequence[MinuteRow]) -> tuple[object, ...]:
    store = SqliteStore(path)
    infos = [SeriesInfo(row.key, "n1", {"phase": "Running"}) for row in rows]
    result = store.write(CLUSTER, "agent", Batch(rows, infos, (), T0, T0 + 60))
    kinds: tuple[Kind, ...] = ("cluster", *KINDS)
    held = [list(store.scan(CLUSTER, kind, tier, 0, 1 << 40)) for kind in kinds for tier in TIERS]
    last = [sorted(store.last(CLUSTER, kind), key=lambda row: row.key) for kind in kinds]
    store.close()
    return result, held, last


@settings(max_examples=examples(60), deadline=None)
@given(st.lists(tables(), max_size=3, unique_by=lambda table: table.kind))
def test_the_store_holds_the_same_whether_rows_come_in_columns_or_one_by_one(made):
    minutes = Minutes(made)
    with TemporaryDirectory() as directory:
        by_columns = everything(Path(directory) / "columns", minutes)
        by_rows = everything(Path(directory) / "rows", list(minutes))
    assert by_columns == by_rows


@given(st.lists(tables(), max_size=3, unique_by=lambda table: table.kind))
def test_rows_ascend_and_those_of_one_minute_are_found_without_the_rest(made):
    minutes = Minutes(made)
    rows = list(minutes)
    assert len(minutes) == len(rows) == sum(len(table.times) for table in made)
    assert [row.ts for row in rows] == sorted(row.ts for row in rows)
    assert newest_of(minutes, "node") == newest_of(rows, "node")
    for ts in {row.ts for row in rows}:
        for kind in KINDS:
            found = rows_at(minutes, kind, ts)
            assert sorted(found, key=repr) == sorted(rows_at(rows, kind, ts), key=repr)
            assert count_at(minutes, kind, ts) == count_at(rows, kind, ts) == len(found)
            has_value = any(cell is not None for row in found for cell in row.cells)
            assert has_value_at(minutes, kind, ts) == has_value_at(rows, kind, ts) == has_value
    assert minutes == rows
    assert Minutes.joined([minutes, Minutes([])]) == minutes


@pytest.mark.parametrize(
    ("kind", "ts", "fields", "message"),
    [
        ("cluster", T0, 17, "may not hold"),
        ("node", T0 + 1, 16, "may not hold"),
        ("node", -60, 16, "may not hold"),
        ("node", T0, 3, "has 3 cells"),
    ],
)
def test_a_malformed_table_is_refused_as_a_whole(tmp_path, kind, ts, fields, message):
    store = SqliteStore(tmp_path / "m.sqlite3")
    table = MinuteTable(kind, [SeriesKey(kind, "", "n1")], [ts], [0], [None] * fields)
    with pytest.raises(StoreError, match=message):
        store.write(CLUSTER, "agent", Batch(Minutes([table])))
    store.close()
