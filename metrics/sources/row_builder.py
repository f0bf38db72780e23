"""Points of time series databases, combined into rows of the catalogue. Pure.

Databases answer by field: one list of points per field. Rows are by minute and series. A point's
minute and the number of its series are encoded in one integer, so that fields are combined by loops
that run in C.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import repeat
from math import floor
from operator import and_, lshift, or_, rshift
from typing import TypeVar, cast

from agent.own_parts import listed_device
from metrics.series.catalog import FIELD_NAMES, Kind
from metrics.series.minute_columns import FieldColumn, MinuteTable
from metrics.series.rows import Cell, CoarseRow, SeriesInfo, SeriesKey
from metrics.sources.bounds import bounds_of, reason
from metrics.sources.validation import MAX_NAME, clean_text
from opscenter.core.errors import BadResponseError

MAX_SERIES = 20_000  # of one answer and kind
SHIFT = 20  # bits of a code that encode the number of the series
MASK = (1 << SHIFT) - 1
NAMELESS, UNWANTED = -1, -2  # instead of a series' number, which makes the code negative too
_NUMBERS = ({int}, {float}, {int, float})

_EMPTY = (None, None, None, None)

Number = TypeVar("Number", int, float)
Value = int | Cell
"""The value of one minute or bucket: a single sample, as nearly all are, or a cell."""
Tags = tuple[str | None, ...]
"""The tags of a series: of a node (name), of a filesystem (node, name), of a pod (namespace, name,
node)."""


class _Numbers(dict[Tags, int]):
    """Numbers of series by their tags; ``make`` creates a new one."""

    def __init__(self, make: Callable[[Tags], int]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, tags: Tags) -> int:
        number = self[tags] = self._make(tags)
        return number


class Table:
    """The series and cells of one kind.

    Attributes:
        kind: the series' kind.
        keys: the series' keys, by their number.
        numbers: numbers by tags, created at the first lookup; negative where the tags name no
            series, or one that is not wanted.
        fields: values by code (see :func:`codes_of`), for each field.
        hosts: the node that a pod ran on, by code.
        ignored: number of points left out: of no series.
        refused: number of values that were left out of sums, because they cannot be believed, by
            reason.
    """

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.keys: list[SeriesKey] = []
        self.numbers = _Numbers(self._number)
        self.fields: dict[str, dict[int, Value]] = {name: {} for name in FIELD_NAMES[kind]}
        self.hosts: dict[int, str] = {}
        self.ignored = 0
        self.refused: Counter[str] = Counter()
        self._by_key: dict[SeriesKey, tuple[int, Tags]] = {}  # number, and the raw name

    def put(self, field: str, codes: Sequence[int], values: Iterable[Value], where: str) -> None:
        """Add one field's values.

        Raises:
            BadResponseError: one series has a time twice.
        """
        column = self.fields[field]
        before = len(column)
        column.update(zip(codes, values, strict=True))
        if len(column) != before + len(codes):
            raise self.twice(codes, where)

    def twice(self, codes: Sequence[int], where: str) -> BadResponseError:
        """Return the error that a time comes twice in one series."""
        code, times = Counter(codes).most_common(1)[0]
        key = self.keys[code & MASK]
        count = f"{times} times" if times > 1 else "again"
        msg = f"{where}: {key.ns or key.kind}/{key.name} has {code >> SHIFT} {count}"
        return BadResponseError(msg, problem="duplicate_series")

    def minutes(self, before: int) -> MinuteTable:
        """Return the minutes of all series before ``before``, in columns, ascending."""
        codes = [code for code in self._codes() if code >> SHIFT < before]
        return MinuteTable(
            kind=self.kind,
            keys=self.keys,
            times=list(map(rshift, codes, repeat(SHIFT))),
            series=list(map(and_, codes, repeat(MASK))),
            columns=[_column(column, codes) for column in self.fields.values()],
        )

    def coarse_rows(self, tier: str) -> list[CoarseRow]:
        """Return a row for every bucket of every series, ascending."""
        return [
            CoarseRow(
                tier,
                code >> SHIFT,
                self.keys[code & MASK],
                tuple(_cell(column.get(code)) for column in self.fields.values()),
            )
            for code in self._codes()
        ]

    def times(self) -> set[int]:
        """Return every time at which any series has a value."""
        return {code >> SHIFT for column in self.fields.values() for code in column}

    def _codes(self) -> list[int]:
        return sorted(set[int]().union(*self.fields.values()))

    def infos(self) -> list[SeriesInfo]:
        """Return every series; pods with the node that they were last seen on.

        Raises:
            BadResponseError: the name of such a node is not valid.
        """
        nodes: dict[int, str] = {}
        for code in sorted(self.hosts):
            nodes[code & MASK] = self.hosts[code]
        for i, name in nodes.items():
            nodes[i] = clean_text(name, "the node of a pod", MAX_NAME)
        return [SeriesInfo(key, nodes.get(i, "")) for i, key in enumerate(self.keys)]

    def _number(self, tags: Tags) -> int:
        if not all(tags[: 1 if self.kind == "node" else 2]):
            return NAMELESS
        names = [clean_text(tag, f"a name of a {self.kind}", MAX_NAME) for tag in tags if tag]
        if not all(names):
            msg = f"the name of a {self.kind} has no printable characters: {tags!r}"
            raise BadResponseError(msg, problem="bad_name")
        if self.kind == "filesystem" and not listed_device(names[1]):
            return UNWANTED
        key = SeriesKey(self.kind, "", names[0])
        if self.kind != "node":
            key = SeriesKey(self.kind, names[0], names[1])
        raw_name = tags[: 1 if self.kind == "node" else 2]
        known, first_name = self._by_key.setdefault(key, (len(self.keys), raw_name))
        if raw_name != first_name:
            msg = f"two names of a {self.kind} look the same when printed: {key.ns}/{key.name}"
            raise BadResponseError(msg, problem="duplicate_series")
        if known == len(self.keys):
            if known >= MAX_SERIES:
                msg = f"more than {MAX_SERIES} series of kind {self.kind} in one answer"
                raise BadResponseError(msg, problem="too_many_series")
            self.keys.append(key)
        return known


def codes_of(times: Iterable[int], numbers: Iterable[int]) -> list[int]:
    """Return the codes of (time, number of the series); they sort by time first."""
    return list(map(or_, map(lshift, times, repeat(SHIFT)), numbers))


def integers(values: Collection[object], where: str, scale: int = 1) -> list[int]:
    """Return numbers times ``scale`` (a divisor if negative) as integers, halves rounded up.

    Raises:
        BadResponseError: a value is not a number, or infinite.
    """
    types = set(map(type, values))
    if not types or types == {int}:
        whole = cast("Collection[int]", values)
        if scale == 1:
            return list(whole)
        if scale > 0:
            return [value * scale for value in whole]
        return [(2 * value - scale) // (-2 * scale) for value in whole]
    if types not in _NUMBERS:
        strange = next(value for value in values if type(value) not in (int, float))
        msg = f"{where}: {str(strange)[:60]!r} where a number is expected"
        raise BadResponseError(msg, problem="bad_value")
    numbers = cast("Collection[float]", values)
    try:
        if scale > 0:
            return [v * scale if type(v) is int else floor(v * scale + 0.5) for v in numbers]
        return [floor(v / -scale + 0.5) for v in numbers]
    except (OverflowError, ValueError) as exc:
        msg = f"{where}: a value is infinite or not a number"
        raise BadResponseError(msg, problem="bad_value") from exc


def of_series(table: Table, codes: list[int], values: list[int]) -> tuple[list[int], list[int]]:
    """Return codes and values without those of no series.

    The table's ``ignored`` counts what is left out, except unwanted filesystems.
    """
    if not codes or min(codes) >= 0:
        return codes, values
    pairs = [(code, value) for code, value in zip(codes, values, strict=True) if code >= 0]
    table.ignored += len(codes) - len(pairs) - codes.count(UNWANTED)
    return [code for code, _ in pairs], [value for _, value in pairs]


def believable_parts(
    table: Table, field: str, codes: list[int], values: list[Number], scale: float = 1
) -> tuple[list[int], list[Number]]:
    """Return codes and values without those that cannot be believed, before they are added up.

    The table's ``refused`` counts what is left out: one bad container or interface must not spoil
    the sum of the others.

    Args:
        table: the table of the sums.
        field: a field of the table's kind.
        codes: the code of each value.
        values: the values of the parts.
        scale: factor from the values' unit to the field's.
    """
    bounds = bounds_of(table.kind, field)
    if not values or bounds.least <= min(values) * scale <= max(values) * scale <= bounds.most:
        return codes, values
    whys = [bounds.why(value * scale, value * scale) for value in values]
    table.refused.update(reason(table.kind, field, why) for why in whys if why)
    good = [at for at, why in enumerate(whys) if not why]
    return [codes[at] for at in good], [values[at] for at in good]


def sampled_cells(codes: Sequence[int], values: Sequence[int]) -> dict[int, Cell]:
    """Return one cell per code, from several samples."""
    samples: dict[int, list[int]] = {}
    for code, value in zip(codes, values, strict=True):
        samples.setdefault(code, []).append(value)
    return {code: Cell(len(v), sum(v), min(v), max(v)) for code, v in samples.items()}


def summed(codes: Sequence[int], values: Sequence[int]) -> dict[int, int]:
    """Return the sum of the values of each code (containers of a pod)."""
    sums: dict[int, int] = {}
    get = sums.get
    for code, value in zip(codes, values, strict=True):
        sums[code] = get(code, 0) + value
    return sums


def count_pods(pods: Table, nodes: Table) -> None:
    """Set the pod count of each node: 0 where other nodes have pods in that minute."""
    counts = Counter(zip(map(rshift, pods.hosts, repeat(SHIFT)), pods.hosts.values(), strict=True))
    counts = Counter({entry: count for entry, count in counts.items() if entry[1]})
    minutes = {time for time, _ in counts}
    present = {code for column in nodes.fields.values() for code in column}
    found: dict[int, int] = {code: 0 for code in present if code >> SHIFT in minutes}
    for (time, host), count in counts.items():
        code = time << SHIFT | nodes.numbers[(host,)]
        found[code] = found.get(code, 0) + count
    nodes.fields["pods"].update(found)


def as_cell(value: Value) -> Cell:
    """Return a single sample as a cell, and a cell unchanged."""
    return Cell(1, value, value, value) if isinstance(value, int) else value


def _cell(value: Value | None) -> Cell | None:
    return None if value is None else as_cell(value)


def _column(column: dict[int, Value], codes: Sequence[int]) -> FieldColumn | None:
    """Return one field of the rows with these codes; None if none of them has it."""
    values = list(map(column.get, codes))
    types = set(map(type, values))
    if types <= {type(None)}:
        return None
    if types == {int}:
        whole = cast("list[int]", values)
        return FieldColumn([1] * len(whole), whole, whole, whole)
    if types == {int, type(None)}:
        some = cast("list[int | None]", values)
        return FieldColumn([None if v is None else 1 for v in some], some, some, some)
    cells = [_EMPTY if value is None else as_cell(value) for value in values]
    return FieldColumn(*map(list, zip(*cells, strict=True)))
