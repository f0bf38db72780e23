"""A range of the spool as the JSON that the hub pulls: columns, one entry per row and field.

Runs in the spool's thread. An answer is cut at a minute's end once it holds
:data:`MAX_BYTES`; ``end`` says how far it goes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from agent.catalog import FIELDS, Kind
from agent.clock import Stretch
from agent.spool.file import SpoolFile, closed_end
from agent.spool.minutes import MinuteFormatError, unpack_columns

MAX_BYTES = 4 * 2**20
"""Bytes of JSON in an answer, exceeded by less than one minute's."""
MAX_SERIES = 16_000
"""Series in an answer, exceeded by less than one minute's new ones; the hub takes 20,000."""
MAX_CLOCK_STEPS = 200
"""Steps of the clock in an answer, the newest ones."""
_LATEST = 4_000_000_000  # in the year 2096: the hub takes no later time
_ROW_BYTES = 17  # a row's "t" and "i"


@dataclass(frozen=True, slots=True)
class CollectorNow:
    """The collector when it is asked.

    Attributes:
        state: what the agent says about it.
        stretch: the clock's present stretch: minutes of any other were named by a clock that was
            set since, and say nothing about now. None if it is not known: no minute is told apart.
    """

    state: Mapping[str, Any]
    stretch: Stretch | None = None


def range_answer(
    spool: SpoolFile,
    *,
    start: int,
    end: int,
    kinds: Sequence[Kind],
    now: float,
    agent: dict[str, str],
    collector: CollectorNow | None = None,
    max_bytes: int = MAX_BYTES,
) -> bytes:
    """Return the answer to ``GET /v1/range`` as JSON.

    Only closed minutes count: the answer's ``end`` is before ``end`` if a minute is still open or
    if the answer is full. At least one minute is always covered, of any size. ``collector`` is the
    collector's state now; None leaves it out.
    """
    covered = max(start, min(end, closed_end(now)))
    tables = {kind: _Table(kind, spool) for kind in kinds}
    size = 0
    minute = start
    for at, kind, data in spool.minutes(start, covered, kinds):
        if at != minute:
            if size >= max_bytes or sum(map(len, tables.values())) >= MAX_SERIES:
                covered = at
                break
            minute = at
        size += tables[kind].extend(at, data)
    state = spool.state(now)
    answer: dict[str, Any] = {
        "agent": agent,
        "now": now,
        "oldest": state.oldest,
        "newest_end": state.newest_end,
        "start": start,
        "end": covered,
        "kinds": {kind: table.as_json() for kind, table in tables.items()},
    }
    if collector is not None:
        answer["collector"] = {
            **collector.state,
            "failed": spool.failures(start, covered),
            "earlier": spool.earlier(start, covered, collector.stretch),
            "clock_steps": [
                (step.minute, min(step.was, _LATEST), min(step.now, _LATEST))
                for step in spool.clock_steps(start, end)[-MAX_CLOCK_STEPS:]
                if step.minute <= _LATEST
            ],
        }
    return orjson.dumps(answer)


class _Table:
    """The columns of one kind, growing minute by minute."""

    def __init__(self, kind: Kind, spool: SpoolFile) -> None:
        self._spool = spool
        self._kind = kind
        self._index: dict[int, int] = {}  # sid -> position in the answer; -1 = unknown
        self._series: list[dict[str, Any]] = []
        self._size = 0
        self._t: list[int] = []
        self._i: list[int] = []
        self._columns: list[list[int | None]] = [[] for _ in range(4 * len(FIELDS[kind]))]

    def extend(self, at: int, data: bytes) -> int:
        """Add a packed minute; return the bytes that it takes. An unreadable one adds nothing."""
        try:
            sids, columns = unpack_columns(self._kind, data)
        except MinuteFormatError:
            return 0
        self._size = _ROW_BYTES * len(sids)
        rows = [self._index.get(sid) for sid in sids]
        if None in rows or -1 in rows:
            rows = [self._position(sid) for sid in sids]
            if -1 in rows:
                known = [number for number, row in enumerate(rows) if row != -1]
                rows = [rows[number] for number in known]
                columns = [[column[number] for number in known] for column in columns]
        self._i.extend(row for row in rows if row is not None)
        self._t.extend([at] * len(rows))
        for start in range(0, len(columns), 4):
            self._add_field(start, columns[start : start + 4])
        return self._size

    def __len__(self) -> int:
        """Return the number of series."""
        return len(self._series)

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
            shown: Sequence[int | None] = part
            if 0 in n:
                shown = [x if k else None for x, k in zip(part, n, strict=True)]
            column.extend(shown)
            self._size += len(orjson.dumps(shown))

    def _position(self, sid: int) -> int:
        position = self._index.get(sid)
        if position is None:
            series = self._spool.series(sid)
            position = -1 if series is None else len(self._series)
            if series is not None:
                self._size += len(series.attrs) + len(series.name.encode()) + 64
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
