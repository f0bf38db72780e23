import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.catalog import FIELDS, KINDS
from agent.samples import MAX_VALUE
from agent.spool.minutes import Minute, MinuteFormatError, unpack_columns

VALUES = st.none() | st.integers(0, 5000) | st.integers(0, MAX_VALUE)


@st.composite
def folded(draw):
    """A kind and samples of a few series in some order."""
    kind = draw(st.sampled_from(KINDS))
    width = len(FIELDS[kind])
    row = st.tuples(*[VALUES] * width)
    return kind, draw(st.lists(st.tuples(st.integers(1, 6), row), max_size=25))


def fold(kind, samples):
    minute = Minute(kind)
    for sid, values in samples:
        minute.fold(sid, values)
    return minute


@given(folded())
def test_a_cell_is_count_sum_minimum_and_maximum_of_what_was_measured(case):
    kind, samples = case
    minute = fold(kind, samples)
    for sid in {sid for sid, _ in samples}:
        for at in range(len(FIELDS[kind])):
            seen = [v[at] for s, v in samples if s == sid and v[at] is not None]
            cell = minute.cells[sid][4 * at : 4 * at + 4]
            assert cell == ([len(seen), sum(seen), min(seen), max(seen)] if seen else [0, 0, 0, 0])


@given(folded())
def test_packing_and_unpacking_changes_nothing(case):
    minute = fold(*case)
    packed = minute.pack()
    assert Minute.unpack(minute.kind, packed).cells == minute.cells


@given(folded(), st.integers(0, 25))
def test_a_minute_interrupted_anywhere_ends_the_same(case, stop):
    kind, samples = case
    first = Minute.unpack(kind, fold(kind, samples[:stop]).pack(level=1))
    for sid, values in samples[stop:]:
        first.fold(sid, values)
    assert first.cells == fold(kind, samples).cells


@given(st.binary(max_size=200))
def test_damaged_bytes_are_refused(data):
    with pytest.raises(MinuteFormatError):
        Minute.unpack("pod", data)


def test_a_cut_minute_is_refused():
    minute = Minute("pod")
    for sid in range(50):
        minute.fold(sid, [sid * 7919] * 7)
    packed = minute.pack()
    for size in range(0, len(packed), 7):
        with pytest.raises(MinuteFormatError):
            Minute.unpack("pod", packed[:size])


def test_fields_added_to_the_catalogue_later_are_not_measured_in_old_minutes(monkeypatch):
    monkeypatch.setitem(FIELDS, "filesystem", ("used", "cap"))
    minute = Minute("filesystem")
    minute.fold(3, [10, 20])
    packed = minute.pack()
    monkeypatch.undo()
    sids, columns = unpack_columns("filesystem", packed)
    assert sids == [3]
    assert columns[:8] == [[1], [10], [10], [10], [1], [20], [20], [20]]
    assert columns[8:] == [[0]] * 8
