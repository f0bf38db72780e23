"""What minutes prove about nodes, filesystems and memory."""

from __future__ import annotations

from datetime import timedelta

import pytest

from metrics.pulling.gap_evidence import evidence_of
from metrics.series.catalog import FIELD_NAMES
from metrics.series.minute_columns import FieldColumn, Minutes, MinuteTable
from metrics.series.rows import Cell, MinuteRow, SeriesInfo, SeriesKey
from metrics.series.source_answer import SourceAnswer
from metrics.series.windows import utc_datetime

T0 = 1_800_000_000
GIB = 1 << 30


def node(minute, name, **fields):
    return make(minute, SeriesKey("node", "", name), fields)


def disk(minute, mount="/", **fields):
    return make(minute, SeriesKey("filesystem", "n1", mount), fields)


def make(minute, key, fields):
    cells = tuple(
        Cell(1, fields[name], fields[name], fields[name]) if name in fields else None
        for name in FIELD_NAMES[key.kind]
    )
    return MinuteRow(T0 + 60 * minute, key, cells)


def in_columns(rows):
    """Return the rows as our agent's answers hold them."""
    tables = []
    for kind in {row.key.kind for row in rows}:
        mine = [row for row in rows if row.key.kind == kind]
        keys = list(dict.fromkeys(row.key for row in mine))
        columns = [
            FieldColumn(*(
                [None if cell is None else getattr(cell, part) for cell in cells]
                for part in ("n", "total", "low", "high")
            ))
            if any(cell is not None for cell in cells) else None
            for cells in zip(*(row.cells for row in mine), strict=True)
        ]  # fmt: skip
        tables.append(MinuteTable(
            kind, keys, [row.ts for row in mine], [keys.index(row.key) for row in mine], columns
        ))  # fmt: skip
    return Minutes(tables)


@pytest.fixture(params=["rows", "columns"])
def ask(request):
    def asked(rows, keys=(), *, skew=0.0, infos=(), earlier=frozenset(), all_filesystems=False):
        told = in_columns(rows) if request.param == "columns" else rows
        answer = SourceAnswer(
            rows=told, infos=infos, start=T0, end=T0 + 3600, oldest=T0, newest_end=None, now=T0,
            agent_version="", kind="", minutes_alive=frozenset(), earlier=earlier,
        )  # fmt: skip
        found = evidence_of(answer, set(keys), skew, all_filesystems=all_filesystems)
        return [
            (one.key, one.level, (one.start - utc_datetime(T0)) / timedelta(minutes=1),
             (one.end - utc_datetime(T0)) / timedelta(minutes=1), one.text)
            for one in sorted(found, key=lambda one: (one.key, one.start))
        ]  # fmt: skip

    return asked


def test_a_node_is_not_ready_from_its_first_such_minute_to_the_next_good_one(ask):
    ready = {0: 1, 1: 0, 2: 0, 3: 1, 5: 0}
    rows = [node(m, "n1", ready=r) for m, r in ready.items()]
    rows += [node(m, f"n{n}", ready=1) for m in ready for n in (2, 3)]
    text = "node n1 is not ready"
    told = [
        ("node:n1", "", 0, 1, ""), ("node:n1", "degraded", 1, 3, text), ("node:n1", "", 3, 4, ""),
        ("node:n1", "degraded", 5, 6, text),
    ]  # fmt: skip
    assert ask(rows) == told
    assert ask(rows, ["node:n1", "node:n3"]) == [
        *told,
        ("node:n3", "", 0, 4, ""), ("node:n3", "", 5, 6, ""),
    ]  # fmt: skip


def test_more_than_half_of_the_nodes_is_critical(ask):
    rows = [node(0, "n1", ready=0), node(0, "n2", ready=0), node(0, "n3", ready=1)]
    assert [one[1] for one in ask(rows)] == ["critical", "critical"]


def test_a_node_that_does_not_say_whether_it_is_ready_proves_nothing(ask):
    rows = [node(0, "n1", cpu_mc=5), node(0, "n2", ready=1, cpu_mc=5)]
    assert ask(rows, ["node:n1"]) == []


def test_a_full_filesystem_is_told_with_its_level(ask):
    rows = [disk(m, used=u * GIB, cap=100 * GIB) for m, u in enumerate((70, 85, 95))]
    assert [one[:4] for one in ask(rows)] == [
        ("filesystem:n1:/", "", 0, 1), ("filesystem:n1:/", "degraded", 1, 2),
        ("filesystem:n1:/", "critical", 2, 3),
    ]  # fmt: skip
    assert ask(rows)[2][4] == "/ on node n1 is 95 % full"
    other = [disk(0, "/var", used=GIB, cap=100 * GIB)]
    assert ask(other) == []
    assert ask(other, ["filesystem:n1:/var"]) == [("filesystem:n1:/var", "", 0, 1, "")]


def test_inodes_that_run_out_are_told(ask):
    rows = [disk(0, inodes_free=4, inodes_total=100), disk(1, inodes_free=50, inodes_total=100)]
    assert [one[:4] for one in ask(rows)] == [
        ("inodes:n1:/", "critical", 0, 1), ("inodes:n1:/", "", 1, 2)
    ]  # fmt: skip


@pytest.mark.parametrize("attrs", [{"ro": "1"}, {"fstype": "squashfs"}, {"device": "/dev/loop3"}])
def test_a_filesystem_that_alarms_nobody_is_no_finding_here_either(ask, attrs):
    rows = [disk(0, used=99 * GIB, cap=100 * GIB)]
    infos = [SeriesInfo(rows[0].key, attrs=attrs)]
    assert ask(rows, infos=infos) == []
    assert len(ask(rows, infos=infos, all_filesystems=True)) == 1
    assert ask([disk(0, used=99, cap=100)]) == []


def test_memory_is_judged_over_the_nodes_that_have_both(ask):
    rows = [
        node(0, "n1", mem_ws=95, mem_cap=100), node(0, "n2", mem_ws=95), node(1, "n1", mem_ws=10,
        mem_cap=100),
    ]  # fmt: skip
    assert ask(rows) == [
        ("memory", "degraded", 0, 1, "95 % of memory in use"), ("memory", "", 1, 2, "")
    ]  # fmt: skip


def test_times_are_by_our_clock_and_minutes_of_a_wrong_one_are_left_out(ask):
    rows = [node(m, "n1", ready=0) for m in (2, 3, 9)]
    found = ask(rows, skew=120.0, earlier=frozenset({T0 + 9 * 60}))
    assert [one[2:4] for one in found] == [(0, 2)]
