"""The agent's answers, checked and turned into rows. Pure.

Everything in an answer is untrusted until checked: if a cluster sends invalid data, the error is
recorded and nothing is stored. Columns are checked as a whole, by loops that run in C, because a
fleet's answers hold some 800,000 numbers a minute.
"""

from __future__ import annotations

from operator import le, mul
from typing import Any, cast

from metrics.series.catalog import FIELD_NAMES, Kind
from metrics.series.minute_columns import FieldColumn, Minutes, MinuteTable
from metrics.series.rows import SeriesInfo, SeriesKey
from metrics.series.source_answer import SourceAnswer
from metrics.series.windows import MINUTE
from metrics.sources.agent.collector_state import parse_collector
from metrics.sources.agent.json_values import (
    clock,
    integers,
    minute,
    optional_minute,
)
from metrics.sources.validation import MAX_NAME, clean_text, json_list, json_object
from opscenter.core.errors import BadResponseError

MAX_SERIES = 20_000  # of one answer, all kinds together
MAX_ROWS = 400_000  # of one fetch; the next one reads the rest of the window
MAX_ATTRS = 16
MAX_ATTR = 256
MAX_SAMPLES = 600  # of one minute: ten a second
MAX_VALUE = (1 << 63) - 1
MAX_AHEAD_SECONDS = 300  # data from the future beyond this is refused
_KINDS: tuple[Kind, ...] = ("node", "filesystem", "pod")


def parse_answer(raw: object, start: int, end: int, *, now: float) -> SourceAnswer:
    """Check one answer of ``/v1/range`` and return its rows.

    Kinds and fields that this version does not know are left out and counted.

    Args:
        raw: the parsed JSON, unchecked.
        start: start of the requested window in Unix seconds, minute aligned.
        end: end of the requested window in Unix seconds, exclusive, minute aligned.
        now: our clock in Unix seconds.

    Raises:
        BadResponseError: names what is wrong and where.
    """
    answer = json_object(raw, "the answer")
    about = json_object(answer.get("agent"), "agent")
    covered_start = minute(answer.get("start"), "start")
    covered_end = minute(answer.get("end"), "end")
    if covered_start != start or not start <= covered_end <= end:
        msg = f"asked for {start}..{end}, the answer covers {covered_start}..{covered_end}"
        raise BadResponseError(msg, problem="bad_value")
    kinds = json_object(answer.get("kinds"), "kinds")
    limit = min(covered_end, int(now) + MAX_AHEAD_SECONDS)
    tables: list[MinuteTable] = []
    rows = 0
    infos: list[SeriesInfo] = []
    alive: set[int] = set()
    ignored = sum(1 for kind in kinds if kind not in _KINDS)
    for kind in _KINDS:
        if kind not in kinds:
            continue
        table = _Table(kind, json_object(kinds[kind], kind), start, limit)
        rows += len(table.times)
        if rows > MAX_ROWS:
            msg = f"{kind}.t: more than {MAX_ROWS} rows in one answer"
            raise BadResponseError(msg, problem="too_many_series")
        keys = table.read_series(infos, MAX_SERIES - len(infos))
        ignored += table.unknown_fields
        tables.append(table.read(keys))
        if kind == "node":
            alive.update(table.times)
    told = parse_collector(answer.get("collector"), start, covered_end, alive=alive)
    return SourceAnswer(
        rows=Minutes(tables),
        infos=infos,
        start=start,
        end=covered_end,
        oldest=optional_minute(answer.get("oldest"), "oldest"),
        newest_end=optional_minute(answer.get("newest_end"), "newest_end"),
        now=clock(answer.get("now"), "now"),
        agent_version=clean_text(about.get("version", ""), "agent.version", 40),
        kind=_agent_kind(about.get("kind", "")),
        minutes_alive=frozenset(alive),
        ignored=ignored,
        collector=told.state,
        failed=told.failed,
        clock_steps=told.clock_steps,
        earlier=told.earlier,
        lists_nodes=True,
    )


class _Table:
    """One kind's part of an answer: series, and columns of times and numbers."""

    def __init__(self, kind: Kind, table: dict[str, Any], start: int, limit: int) -> None:
        self.kind = kind
        self.series = json_list(table.get("series"), f"{kind}.series")
        self.times = json_list(table.get("t"), f"{kind}.t")
        self.indexes = json_list(table.get("i"), f"{kind}.i")
        self.fields = json_object(table.get("fields"), f"{kind}.fields")
        self.unknown_fields = sum(1 for name in self.fields if name not in FIELD_NAMES[kind])
        self._start, self._limit = start, limit

    def read_series(self, infos: list[SeriesInfo], room: int) -> list[SeriesKey]:
        """Append the table's series to ``infos`` and return their keys, in the table's order."""
        if len(self.series) > room:
            msg = f"{self.kind}.series: more than {MAX_SERIES} series in one answer"
            raise BadResponseError(msg, problem="too_many_series")
        keys = []
        for position, entry in enumerate(self.series):
            info = _plain_series_info(self.kind, entry)
            if info is None:
                where = f"{self.kind}.series[{position}]"
                info = _series_info(self.kind, json_object(entry, where), where)
            infos.append(info)
            keys.append(info.key)
        if len(set(keys)) != len(keys):
            msg = f"{self.kind}.series: the same name twice"
            raise BadResponseError(msg, problem="duplicate_series")
        return keys

    def read(self, keys: list[SeriesKey]) -> MinuteTable:
        """Return the table's rows, in its own order."""
        self._check_times()
        self._check_indexes(len(keys))
        columns = [self._column(name) for name in FIELD_NAMES[self.kind]]
        return MinuteTable(self.kind, keys, self.times, self.indexes, columns)

    def _check_times(self) -> None:
        times, where = self.times, f"{self.kind}.t"
        if not times:
            return
        integers(times, where)
        low, high = min(times), max(times)
        if low < self._start or high >= self._limit:
            strange = low if low < self._start else high
            msg = f"{where}: {strange} is outside the requested range or in the future"
            raise BadResponseError(msg, problem="bad_value")
        if any(time % MINUTE for time in set(times)):
            msg = f"{where}: a time is not the start of a minute"
            raise BadResponseError(msg, problem="bad_value")

    def _check_indexes(self, series: int) -> None:
        indexes, where = self.indexes, f"{self.kind}.i"
        if len(indexes) != len(self.times):
            msg = f"{where}: {len(indexes)} entries, but {len(self.times)} times"
            raise BadResponseError(msg, problem="bad_value")
        if not indexes:
            return
        integers(indexes, where)
        if min(indexes) < 0 or max(indexes) >= series:
            msg = f"{where}: an entry is outside 0..{series - 1}, the series of the answer"
            raise BadResponseError(msg, problem="bad_value")
        if len(set(zip(self.times, indexes, strict=True))) != len(indexes):
            msg = f"{self.kind}: one series has a minute twice"
            raise BadResponseError(msg, problem="duplicate_series")

    def _column(self, name: str) -> FieldColumn | None:
        """Return one field's column; None if the answer lacks the field."""
        if name not in self.fields:
            return None
        where = f"{self.kind}.fields.{name}"
        field = json_object(self.fields[name], where)
        column = FieldColumn(*(json_list(field.get(key), f"{where}.{key}") for key in "nslh"))
        count, total, low, high = column
        if not len(count) == len(total) == len(low) == len(high) == len(self.times):
            msg = f"{where}: the lists are not as long as t"
            raise BadResponseError(msg, problem="bad_value")
        missing = count.count(None)
        if any(part.count(None) != missing for part in column):
            msg = f"{where}: null in one list, a number in another"
            raise BadResponseError(msg, problem="bad_value")
        if not missing:
            self._check_numbers(where, *cast("tuple[list[int], ...]", column))
            return column
        packed = [cell for cell in zip(count, total, low, high, strict=True) if cell[0] is not None]
        if packed:
            self._check_numbers(where, *map(list, zip(*packed, strict=True)))
        return column

    def _check_numbers(
        self, where: str, count: list[int], total: list[int], low: list[int], high: list[int]
    ) -> None:
        """Check types, bounds, and that the mean lies between the lowest and the highest."""
        if not count:
            return
        for key, column in zip("nslh", (count, total, low, high), strict=True):
            integers(column, f"{where}.{key}")
        if min(count) < 1 or max(count) > MAX_SAMPLES:
            msg = f"{where}.n: a number of samples is outside 1..{MAX_SAMPLES}"
            raise BadResponseError(msg, problem="bad_value")
        lowest, highest = min(low), max(high)
        if lowest < -MAX_VALUE or highest > MAX_VALUE:
            msg = f"{where}: a value is beyond {MAX_VALUE}"
            raise BadResponseError(msg, problem="bad_value")
        if low == total == high and count.count(1) == len(count):
            return  # single samples
        if not (
            all(map(le, map(mul, low, count), total)) and all(map(le, total, map(mul, high, count)))
        ):
            msg = f"{where}: a mean is not between its lowest and highest value"
            raise BadResponseError(msg, problem="bad_value")


def _plain_series_info(kind: Kind, entry: object) -> SeriesInfo | None:
    """Return a series of short printable texts, as nearly all are, checked all at once.

    None for every other: :func:`_series_info` cleans it, or says what is wrong.
    """
    if type(entry) is not dict:
        return None
    name: Any = entry.get("name")
    ns, node = entry.get("ns", ""), entry.get("node", "")
    attrs = entry.get("attrs", {})
    if type(attrs) is not dict or len(attrs) > MAX_ATTRS:
        return None
    parts: tuple[Any, ...] = (name, ns, node, *attrs, *attrs.values())
    try:
        texts = "".join(parts)
    except TypeError:
        return None
    if len(texts) > min(MAX_NAME, MAX_ATTR) or not texts.isprintable():
        return None
    if not name or (kind != "node" and not ns):
        return None
    return SeriesInfo(SeriesKey(kind, "" if kind == "node" else ns, name), node, attrs)


def _series_info(kind: Kind, entry: dict[str, Any], where: str) -> SeriesInfo:
    name = clean_text(entry.get("name"), f"{where}.name", MAX_NAME)
    ns = clean_text(entry.get("ns", ""), f"{where}.ns", MAX_NAME)
    node = clean_text(entry.get("node", ""), f"{where}.node", MAX_NAME)
    if not name or (kind != "node" and not ns):
        msg = f"{where}: the name is empty"
        raise BadResponseError(msg, problem="bad_name")
    attrs = json_object(entry.get("attrs", {}), f"{where}.attrs")
    if len(attrs) > MAX_ATTRS:
        msg = f"{where}.attrs: {len(attrs)} entries; at most {MAX_ATTRS} are accepted"
        raise BadResponseError(msg, problem="bad_name")
    clean = {
        clean_text(key, f"{where}.attrs", MAX_ATTR): clean_text(value, f"{where}.attrs", MAX_ATTR)
        for key, value in attrs.items()
    }
    key = SeriesKey(kind, "" if kind == "node" else ns, name)
    return SeriesInfo(key, node, clean)


def _agent_kind(value: object) -> str:
    text = clean_text(value, "agent.kind", 20)
    return text if text in ("host", "kubernetes") else ""
