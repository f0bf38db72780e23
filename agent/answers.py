"""A range of the spool as the JSON that the hub pulls: columns, one entry a row and field.

Runs in the spool's thread. An answer is cut at a minute's end once it holds
:data:`MAX_CELLS`, which keeps it near 4 MB of JSON; ``end`` says how far it got.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from agent.catalog import FIELDS, Kind
from agent.minutes import MinuteFormatError, row_count, unpack_columns
from agent.spoolfile import SpoolFile, closed_end

MAX_CELLS = 110_000
"""Cells in an answer; a cell takes up to about 35 bytes of JSON."""
_CELLS_A_SERIES = 8  # what naming a series weighs, in cells


def range_answer(
    spool: SpoolFile,
    *,
    start: int,
    end: int,
    kinds: Sequence[Kind],
    now: float,
    agent: dict[str, str],
    max_cells: int = MAX_CELLS,
) -> bytes:
    """Return the answer to ``GET /v1/range`` as JSON.

    Only closed minutes count: the answer's ``end`` is before ``end`` if a minute is still open or
    if the answer is full. At least one minute is always covered, however big it is.
    """
    covered = max(start, min(end, closed_end(now)))
    tables = {kind: _Table(kind, spool) for kind in kinds}
    cells = 0
    minute = start
    for at, kind, data in spool.minutes(start, covered, kinds):
        if at != minute:
            if cells >= max_cells:
                covered = at
                break
            minute = at
        cells += row_count(data) * len(FIELDS[kind])
        cells += tables[kind].extend(at, data) * _CELLS_A_SERIES
    state = spool.state(now)
    answer = {
        "agent": agent,
        "now": now,
        "oldest": state.oldest,
        "newest_end": state.newest_end,
        "start": start,
        "end": covered,
        "kinds": {kind: table.as_json() for kind, table in tables.items()},
    }
    return orjson.dumps(answer)


class _Table:
    """The columns of one kind, growing minute by minute."""

    def __init__(self, kind: Kind, spool: SpoolFile) -> None:
        self._spool = spool
        self._kind = kind
        self._index: dict[int, int] = {}  # sid -> position in the answer; -1 = unknown
        self._series: list[dict[str, Any]] = []
        self._t: list[int] = []
        self._i: list[int] = []
        self._columns: list[list[int | None]] = [[] for _ in range(4 * len(FIELDS[kind]))]

    def extend(self, at: int, data: bytes) -> int:
        """Add a packed minute; return how many series were new. An unreadable one adds nothing."""
        try:
            sids, columns = unpack_columns(self._kind, data)
        except MinuteFormatError:
            return 0
        before = len(self._series)
        rows = [self._index.get(sid) for sid in sids]
        if None in rows or -1 in rows:
            rows = [self._position(sid) for sid in sids]
            if -1 in rows:
                keep = [number for number, row in enumerate(rows) if row != -1]
                rows = [rows[number] for number in keep]
                columns = [[column[number] for number in keep] for column in columns]
        self._i.extend(row for row in rows if row is not None)
        self._t.extend([at] * len(rows))
        for start in range(0, len(columns), 4):
            self._add_field(start, columns[start : start + 4])
        return len(self._series) - before

    def as_json(self) -> dict[str, Any]:
        names = FIELDS[self._kind]
        fields = {
            name: dict(zip("nslh", self._columns[4 * at : 4 * at + 4], strict=True))
            for at, name in enumerate(names)
        }
        return {"series": self._series, "t": self._t, "i": self._i, "fields": fields}

    def _add_field(self, start: int, parts: list[list[int]]) -> None:
        n = parts[0]
        for offset, part in enumerate(parts):
            column = self._columns[start + offset]
            if 0 in n:
                column.extend(x if k else None for x, k in zip(part, n, strict=True))
            else:
                column.extend(part)

    def _position(self, sid: int) -> int:
        position = self._index.get(sid)
        if position is None:
            series = self._spool.series(sid)
            position = -1 if series is None else len(self._series)
            if series is not None:
                self._series.append(
                    {
                        "ns": series.ns,
                        "name": series.name,
                        "node": series.node,
                        "attrs": orjson.Fragment(series.attrs),
                    }
                )
            self._index[sid] = position
        return position
