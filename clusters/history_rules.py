"""What a filled gap changes in the history of a cluster: the rules. Pure; no Django, no clock.

Minutes that come later prove that something was off, and until when it was. They move the
beginning and the end of rows, also of closed ones, and add what began and ended while nobody saw
it. When something became *known* never changes. They never prove that a cluster was well: what a
node reports of itself, and what a source could not see, is in no minute. So a time that was
*unknown* may turn out to have been worse, and never becomes *ok*.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Literal

from clusters.health import WORST_FIRST

NEAR = timedelta(minutes=2)
"""How far a row may lie from the minutes that continue it: some are dated by the end of a pull."""

Ending = Literal["", "over", "changed", "unknown"]
_KEPT = ("pending", "revoked")  # states that no measurement changes


@dataclass(frozen=True, slots=True)
class Evidence:
    """Unbroken minutes in which one thing was measured.

    Attributes:
        key: the finding's, as it is stored.
        level: how bad it was; "" for well.
        start, end: when, by our clock; end exclusive.
        text: what it was; "" for well.
    """

    key: str
    level: str
    start: datetime
    end: datetime
    text: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the history; the attributes are those of :class:`clusters.models.ClusterEvent`.

    Attributes:
        pk: None for a row that is new.
    """

    pk: int | None
    key: str
    level: str
    text: str
    began_at: datetime
    began_known_at: datetime
    began_at_least: bool = False
    ended_at: datetime | None = None
    ended_known_at: datetime | None = None
    ending: Ending = ""

    def reaches(self, moment: datetime) -> bool:
        """Return whether it is open, or ends at a moment or later."""
        return self.ended_at is None or self.ended_at >= moment


@dataclass(slots=True)
class Room:
    """How many rows may still be added, and how many changes found no room."""

    rows: int
    left_out: int = 0

    def take(self) -> bool:
        """Return whether there is room for one more row; count it either way."""
        if self.rows > 0:
            self.rows -= 1
            return True
        self.left_out += 1
        return False


def correct_findings(
    rows: Sequence[Row], told: Sequence[Evidence], room: Room, now: datetime
) -> tuple[list[Row], list[Evidence]]:
    """Return the rows of one key as the evidence has them, and what it proved that was not known.

    Args:
        rows: those of the key, none overlapping, in the time of the evidence and beside it.
        told: the evidence about the key.
        room: for rows to add; what finds none is not proven either.
        now: when it became known.
    """
    found = sorted(rows, key=lambda row: row.began_at)
    told = sorted(told, key=lambda one: one.start)
    well = [one for one in told if not one.level]
    new: list[Evidence] = []
    for one in told:
        for piece in _not_covered(one, found) if one.level else ():
            found, proven = _with_piece(found, piece, well, room, now)
            new += proven
    for one in well:
        found = [_beside_well(row, one) for row in found]
    return _joined(found), new


def correct_states(
    rows: Sequence[Row], proven: Sequence[Evidence], room: Room, now: datetime
) -> list[Row]:
    """Return the rows of the state: as bad as what was proven, while it was.

    Args:
        rows: of the state, none overlapping.
        proven: what :func:`correct_findings` found of all keys.
        room: for rows to add; a row that would need more stays as it is.
        now: when it became known.
    """
    done: list[Row] = []
    waiting = sorted(rows, key=lambda row: row.began_at)
    while waiting:
        row = waiting.pop(0)
        parts = [] if row.ended_at == row.began_at else _parts(row, proven)
        same = not parts or (len(parts) == 1 and parts[0].level == row.level)
        # What is so now is judged by the newest minute, not by a gap.
        if same or (row.ended_at is None and parts[-1].level != row.level):
            done.append(row)
        else:
            done, waiting = _split(done, row, parts, waiting, room, now)
    return done


def _not_covered(one: Evidence, rows: Iterable[Row]) -> list[Evidence]:
    """Return the pieces of bad evidence in which no row says anything of the key."""
    pieces, at = [], one.start
    for row in rows:
        if not row.reaches(at) or row.began_at >= one.end:
            continue
        if row.began_at > at:
            pieces.append(replace(one, start=at, end=row.began_at))
        if row.ended_at is None:
            return pieces
        at = max(at, row.ended_at)
    if at < one.end:
        pieces.append(replace(one, start=at))
    return pieces


def _with_piece(
    rows: list[Row], piece: Evidence, well: Sequence[Evidence], room: Room, now: datetime
) -> tuple[list[Row], list[Evidence]]:
    """Return rows with a piece, and what it proved: a border moves, or a row is added."""
    for at, row in enumerate(rows):
        if row.level == piece.level and _leads_to(piece, row, well):
            ends = [r.ended_at for r in rows[:at] if r.ended_at is not None]
            began = min(max([piece.start, *ends]), row.began_at)
            moved = replace(row, began_at=began, began_at_least=began == piece.start)
            proven = replace(piece, start=began, end=row.began_at)
            return [*rows[:at], moved, *rows[at + 1 :]], [proven]
    for at, row in enumerate(rows):
        if row.level == piece.level and row.ended_at and _follows(piece, row.ended_at, row, well):
            moved = replace(row, ended_at=piece.end, ending="unknown")
            return [*rows[:at], moved, *rows[at + 1 :]], [replace(piece, start=row.ended_at)]
    if not room.take():
        return rows, []
    made = Row(
        None, piece.key, piece.level, piece.text, piece.start, now, began_at_least=True,
        ended_at=piece.end, ended_known_at=now, ending="unknown",
    )  # fmt: skip
    return sorted([*rows, made], key=lambda row: row.began_at), [piece]


def _leads_to(piece: Evidence, row: Row, well: Sequence[Evidence]) -> bool:
    """Return whether a row goes on from a piece: nothing good lies between them."""
    if row.began_at < piece.end:
        return False
    near = row.began_at - piece.end <= (NEAR if row.began_at_least else timedelta())
    return near and not _any_within(well, piece.end, row.began_at)


def _follows(piece: Evidence, ended: datetime, row: Row, well: Sequence[Evidence]) -> bool:
    """Return whether a piece goes on from a row that nobody saw end."""
    near = timedelta() <= piece.start - ended <= NEAR
    return near and row.ending == "unknown" and not _any_within(well, ended, piece.start)


def _any_within(told: Iterable[Evidence], start: datetime, end: datetime) -> bool:
    return any(one.start < end and one.end > start for one in told)


def _beside_well(row: Row, well: Evidence) -> Row:
    """Return a row that begins where it was well before, and ends where it was well again."""
    if row.began_at_least and well.start < row.began_at and abs(row.began_at - well.end) <= NEAR:
        row = replace(row, began_at_least=False)
    ended = row.ended_at
    if (
        row.ending == "unknown"
        and ended is not None
        and row.began_at < well.start <= ended + NEAR
        and well.end >= ended
    ):
        row = replace(row, ended_at=min(ended, well.start), ending="over")
    return row


def _joined(rows: Sequence[Row]) -> list[Row]:
    """Return rows of which each that ends where the next begins says so."""
    joined = list(rows)
    for at, (row, after) in enumerate(pairwise(rows)):
        if row.ended_at is None or row.ended_at < after.began_at or after.level == "unknown":
            continue
        if row.ending == "unknown":
            joined[at] = replace(joined[at], ending="changed")
        joined[at + 1] = replace(after, began_at_least=False)
    return joined


@dataclass(frozen=True, slots=True)
class _Part:
    level: str
    start: datetime
    end: datetime | None
    text: str


def _parts(row: Row, proven: Iterable[Evidence]) -> list[_Part]:
    """Return a row of the state in parts, each with the worst that is known of it."""
    inside = [
        one for one in proven
        if one.start < one.end and one.end > row.began_at
        and (row.ended_at is None or one.start < row.ended_at)
        and row.level not in _KEPT and _rank(one.level) < _rank(row.level)
    ]  # fmt: skip
    borders = {max(row.began_at, one.start) for one in inside}
    borders |= {one.end for one in inside if row.ended_at is None or one.end < row.ended_at}
    cuts: list[datetime | None] = [*sorted({row.began_at, *borders}), row.ended_at]
    parts: list[_Part] = []
    for start, end in pairwise(cuts):
        if start is None or (end is not None and end <= start and len(cuts) > 2):
            continue
        bad = [o for o in inside if o.start <= start and (end is not None and end <= o.end)]
        worst = min(bad, key=lambda one: _rank(one.level), default=None)
        level, text = (worst.level, worst.text) if worst else (row.level, row.text)
        if parts and parts[-1].level == level:
            parts[-1] = replace(parts[-1], end=end)
        else:
            parts.append(_Part(level, start, end, text))
    return parts


def _split(
    done: list[Row],
    row: Row,
    parts: list[_Part],
    waiting: list[Row],
    room: Room,
    now: datetime,
) -> tuple[list[Row], list[Row]]:
    """Return the rows before a row and those after it, with its parts among them."""
    first, last = parts[0], parts[-1]
    before = next((r for r in done if (r.level, r.ended_at) == (first.level, first.start)), None)
    after = next((r for r in waiting if (r.level, r.began_at) == (last.level, last.end)), None)
    rest = parts[1:] if before else parts
    rest = rest[:-1] if after and rest else rest
    own = [at for at, part in enumerate(rest) if part.level == row.level]
    added = len(rest) - min(1, len(own))
    if added > room.rows:
        room.left_out += 1
        return [*done, row], waiting
    room.rows -= added
    if before:
        ending: Ending = "unknown" if rest and rest[0].level == "unknown" else "changed"
        moved = replace(before, ended_at=first.end, ending=ending)
        done = [moved if r is before else r for r in done]
    if after and (len(parts) > 1 or not before):
        moved = replace(after, began_at=last.start)
        waiting = [moved if r is after else r for r in waiting]
    if not own:  # nothing is left of it; when it was known stays
        at_end = rest[0].start if rest else first.start
        if before and not rest:
            at_end = first.end or first.start
        done.append(replace(row, began_at=at_end, ended_at=at_end, began_at_least=False))
    kept = own[-1 if row.ended_at is None else 0] if own else None
    for at, part in enumerate(rest):
        if part.level != row.level:
            done.append(_new_state(row, part, now))
        else:
            left = _remains(row, part, now)
            done.append(left if at == kept else replace(left, pk=None))
    return done, waiting


def _remains(row: Row, part: _Part, now: datetime) -> Row:
    """Return what is left of a row of the state; it was known when it was known."""
    known = row.ended_known_at or now
    return replace(
        row,
        began_at=part.start,
        began_at_least=row.began_at_least and part.start == row.began_at,
        ended_at=part.end,
        ended_known_at=None if part.end is None else known,
        ending=row.ending if part.end == row.ended_at else "changed",
    )


def _new_state(row: Row, part: _Part, now: datetime) -> Row:
    ending: Ending = "unknown" if row.level == "unknown" else "changed"
    return Row(
        None, row.key, part.level, part.text, part.start, now,
        ended_at=part.end, ended_known_at=now, ending=ending,
    )  # fmt: skip


_RANKS: Mapping[str, int] = {state: rank for rank, state in enumerate(WORST_FIRST)}


def _rank(level: str) -> int:
    return _RANKS.get(level, len(_RANKS))
