"""The packing of rows into chunks."""

from __future__ import annotations

import random
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics.series.rollups import LARGEST
from metrics.stores.sqlite.chunk_encoder import encode, in_columns
from metrics.stores.sqlite.chunks import Chunk, DamagedChunkError, table_rows

START = 1_700_000_000 // 864_000 * 864_000
VALUES = st.none() | st.integers(-LARGEST, LARGEST) | st.integers(0, 50).map(lambda v: 4096 * v)


def minute(draw_values):
    mean, below, above = draw_values
    if mean is None:
        return (None, None, None)
    low = None if not below else max(-LARGEST, mean - below)
    high = None if not above else min(LARGEST, mean + above)
    return (mean, None if low == mean else low, None if high == mean else high)


MINUTES = st.tuples(VALUES, st.integers(0, 1000), st.integers(0, 2**40)).map(minute)


def bucket(drawn):
    mean, n, rest, low, high = drawn
    if mean is None:
        return (None, None, None, None)
    return (n, mean * n + rest % n, low and mean - low, high and mean + 1 + high)


BUCKETS = st.tuples(
    VALUES,
    st.integers(1, 10),
    st.integers(0, 9),
    st.none() | st.integers(1, 99),
    st.none() | st.integers(1, 2**50),
).map(bucket)


def rows_of(cells, step, buckets):
    """Return a strategy of rows: some of the buckets of some series."""
    row = st.tuples(st.integers(0, 30), st.lists(cells, min_size=3, max_size=3))
    places = st.tuples(st.integers(0, 3), st.integers(0, buckets - 1))
    return st.dictionaries(places, row, min_size=1, max_size=30).map(
        lambda found: [
            (START + bucket * step, (5 << 24) + 7 * series, n, *(v for cell in cells for v in cell))
            for (series, bucket), (n, cells) in sorted(found.items())
        ]
    )


@pytest.mark.parametrize(("cells", "step", "buckets"), [(MINUTES, 60, 60), (BUCKETS, 600, 144)])
def test_whatever_is_packed_comes_back(cells, step, buckets):
    @given(rows_of(cells, step, buckets))
    def check(rows):
        columns = in_columns(reversed(rows))
        data = encode(columns, [4, 9, 2], start=START, step=step, buckets=buckets)
        chunk = Chunk(data)
        assert table_rows(chunk, [4, 9, 2]) == rows
        assert chunk.sids == sorted({row[1] for row in rows})
        since = START + step * (buckets // 2)
        assert table_rows(chunk, [4, 9, 2], since=since) == [r for r in rows if r[0] >= since]

    check()


@given(rows_of(BUCKETS, 3600, 240))
def test_one_series_reads_as_it_does_among_all(rows):
    chunk = Chunk(encode(in_columns(rows), [1, 2, 3], start=START, step=3600, buckets=240))
    together = chunk.read([1, 2, 3])
    for at in range(len(chunk.sids)):
        alone = chunk.read([3, 1, 7, 2], at)
        assert set(alone) == set(together)
        part = slice(at * 240, (at + 1) * 240)
        for number, field in alone.items():
            whole = together[number]
            assert field.n == whole.n[part]
            assert field.total == whole.total[part]
            assert field.low == whole.low[part]
            assert field.high == whole.high[part]


def test_fields_go_by_their_numbers_not_by_their_places():
    rows = [(START, 1, 1, 10, None, None, 20, 19, None)]
    chunk = Chunk(encode(in_columns(rows), [7, 300], start=START, step=60, buckets=60))
    assert table_rows(chunk, [300, 5, 7]) == [
        (START, 1, 1, 20, 19, None, None, None, None, 10, None, None)
    ]


def test_a_field_that_nobody_measured_takes_no_space():
    rows = [(START + 60 * m, 1, 1, m, None, None) for m in range(60)]
    one = encode(in_columns(rows), [1], start=START, step=60, buckets=60)
    more = [(*row, None, None, None) for row in rows]
    assert encode(in_columns(more), [1, 2], start=START, step=60, buckets=60) == one


def test_any_changed_byte_is_noticed():
    draw = random.Random(3)
    rows = [
        (START + 60 * m, s, 4, draw.randrange(10**9), 0, None) for m in range(60) for s in (1, 2)
    ]
    data = encode(in_columns(rows), [1], start=START, step=60, buckets=60)
    for at in range(len(data)):
        broken = bytearray(data)
        broken[at] ^= 1 << draw.randrange(8)
        with pytest.raises(DamagedChunkError):
            Chunk(bytes(broken))
    for length in (0, 5, 6, len(data) - 1):
        with pytest.raises(DamagedChunkError):
            Chunk(data[:length])


def test_quiet_series_cost_next_to_nothing():
    rows = [
        (START + 60 * m, sid, 4, *([4096 * sid, None, None] * 7))
        for m in range(60)
        for sid in range(64)
    ]
    data = encode(in_columns(rows), range(1, 8), start=START, step=60, buckets=60)
    assert len(data) < 64 * 60 * 7 * 0.05
    assert len(zlib.compress(data)) > len(data) * 0.5
