"""What the minutes of a filled gap say about nodes, filesystems and memory. Pure.

Only minutes say it: a coarse value cannot tell when something began. Minutes that a clock named
which was set since are left out, for nobody knows when they were.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta

from clusters.conditions import Condition, What
from clusters.health import text_of
from clusters.history_rules import Evidence
from metrics.pulling.conditions import LIMITS, judged_filesystems, level_of
from metrics.series.catalog import FIELD_NAMES, Kind
from metrics.series.minute_columns import Minutes
from metrics.series.rows import Cell, MinuteRow, SeriesKey
from metrics.series.source_answer import SourceAnswer
from metrics.series.windows import MINUTE, utc_datetime

_LEVELS = ("", "degraded", "critical")
_Values = tuple[SeriesKey, int, list[float | None]]
_Found = dict[str, dict[int, tuple[str, Condition]]]  # key -> minute -> level and what it was


def evidence_of(
    answer: SourceAnswer, keys: Collection[str], skew: float, *, all_filesystems: bool = False
) -> list[Evidence]:
    """Return what an answer proves of everything that was off in it, and of ``keys``.

    Args:
        answer: what filled the gap.
        keys: of findings that are told although nothing was off.
        skew: seconds by which the source's clock is ahead of ours.
        all_filesystems: whether also small, read-only and loop-mounted filesystems alarm.
    """
    found: _Found = {}
    _nodes(answer.rows, keys, found)
    _filesystems(answer, keys, found, all_filesystems=all_filesystems)
    _memory(answer.rows, keys, found)
    return [
        one for key, minutes in found.items() for one in _parts(key, minutes, skew, answer.earlier)
    ]


def field_values(rows: Sequence[MinuteRow], kind: Kind, names: Sequence[str]) -> Iterator[_Values]:
    """Yield (series, minute, means of fields) of a kind, in columns or not; None: not measured."""
    places = [FIELD_NAMES[kind].index(name) for name in names]
    if isinstance(rows, Minutes):
        for table in rows.tables:
            if table.kind != kind:
                continue
            columns = [table.columns[place] for place in places]
            for at, (ts, series) in enumerate(zip(table.times, table.series, strict=True)):
                yield (
                    table.keys[series],
                    ts,
                    [
                        _mean(column.n[at], column.total[at]) if column else None
                        for column in columns
                    ],
                )
        return
    for row in rows:
        if row.key.kind == kind:
            yield row.key, row.ts, [_mean_of(row.cells[place]) for place in places]


def _nodes(rows: Sequence[MinuteRow], keys: Collection[str], found: _Found) -> None:
    """Note who said that it was not ready; of ``keys`` also who said that it was."""
    lost: dict[int, set[str]] = {}
    for key, ts, (ready,) in field_values(rows, "node", ("ready",)):
        if ready is not None and not round(ready):
            lost.setdefault(ts, set()).add(key.name)
    known = {f"node:{name}" for names in lost.values() for name in names}.union(keys)
    if not any(key.startswith("node:") for key in known):
        return
    total: dict[int, int] = {}
    for _, ts, values in field_values(rows, "node", ("ready", "cpu_mc", "mem_ws")):
        if lost.get(ts) and any(value is not None for value in values):
            total[ts] = total.get(ts, 0) + 1
    for key, ts, (ready,) in field_values(rows, "node", ("ready",)):
        if ready is None or f"node:{key.name}" not in known:
            continue
        one = Condition(what="not_ready", node=key.name)
        level = ""
        if key.name in lost.get(ts, ()):
            level = "critical" if 2 * len(lost[ts]) > total[ts] else "degraded"
        found.setdefault(one.key, {})[ts] = (level, one)


def _filesystems(
    answer: SourceAnswer, keys: Collection[str], found: _Found, *, all_filesystems: bool
) -> None:
    """Note which filesystems were full, by bytes and by inodes; of ``keys`` also when not."""
    whats: tuple[What, ...] = ("filesystem", "inodes")
    for what in whats:
        full = dict[SeriesKey, float]()  # and their capacity in bytes, or inodes
        for key, _, share, whole in _shares(answer.rows, what):
            if share >= LIMITS[what][0] and key not in full:
                full[key] = whole
        judged = {
            k
            for k, cap in full.items()
            if _is_judged(answer, what, k, cap, all_of_them=all_filesystems)
        }
        if not judged and not any(key.startswith(what) for key in keys):
            continue
        for key, ts, share, whole in _shares(answer.rows, what):
            size = int(whole) if what == "filesystem" else None
            one = Condition(what=what, node=key.ns, name=key.name, ratio=share, size=size)
            if key in judged or (one.key in keys and key not in full):
                found.setdefault(one.key, {})[ts] = (_LEVELS[level_of(one)], one)


def _shares(rows: Sequence[MinuteRow], what: What) -> Iterator[tuple[SeriesKey, int, float, float]]:
    """Yield (series, minute, share in use 0..1, whole) of the filesystems that have both."""
    names = ("used", "cap") if what == "filesystem" else ("inodes_free", "inodes_total")
    for key, ts, (part, whole) in field_values(rows, "filesystem", names):
        if part is not None and whole and whole > 0:
            share = part / whole if what == "filesystem" else 1 - part / whole
            yield key, ts, min(1.0, max(0.0, share)), whole


def _is_judged(
    answer: SourceAnswer, what: What, key: SeriesKey, whole: float, *, all_of_them: bool
) -> bool:
    cap = int(whole)
    cells = tuple(
        Cell(1, cap, cap, cap) if name == "cap" and what == "filesystem" else None
        for name in FIELD_NAMES["filesystem"]
    )
    row = MinuteRow(answer.start, key, cells)
    return bool(judged_filesystems([row], answer.infos, all_of_them=all_of_them))


def _memory(rows: Sequence[MinuteRow], keys: Collection[str], found: _Found) -> None:
    """Note the minutes in which the nodes' memory was full, over the nodes that have both."""
    sums: dict[int, tuple[float, float]] = {}
    for _, ts, (used, cap) in field_values(rows, "node", ("mem_ws", "mem_cap")):
        if used is not None and cap:
            before = sums.get(ts, (0.0, 0.0))
            sums[ts] = (before[0] + used, before[1] + cap)
    told = {
        ts: Condition(what="memory", ratio=used / cap)
        for ts, (used, cap) in sums.items()
        if cap > 0
    }
    if "memory" in keys or any(map(level_of, told.values())):
        found["memory"] = {ts: (_LEVELS[level_of(one)], one) for ts, one in told.items()}


def _parts(
    key: str, minutes: Mapping[int, tuple[str, Condition]], skew: float, without: Iterable[int]
) -> Iterator[Evidence]:
    """Yield unbroken minutes at one level; the text is that of the newest."""
    ahead = timedelta(seconds=skew)
    start = end = None
    level, last = "", None
    for ts in sorted(set(minutes).difference(without)):
        now_level, one = minutes[ts]
        if start is None or ts != end or now_level != level:
            if start is not None and end is not None and last is not None:
                yield _part(key, level, last, start, end, ahead)
            start, level = ts, now_level
        end, last = ts + MINUTE, one
    if start is not None and end is not None and last is not None:
        yield _part(key, level, last, start, end, ahead)


def _part(key: str, level: str, one: Condition, start: int, end: int, ahead: timedelta) -> Evidence:
    text = text_of(one) if level else ""
    return Evidence(key, level, utc_datetime(start) - ahead, utc_datetime(end) - ahead, text)


def _mean(n: int | None, total: int | None) -> float | None:
    return None if not n or total is None else total / n


def _mean_of(cell: Cell | None) -> float | None:
    return None if cell is None else _mean(cell.n, cell.total)
