"""The content of charts as JSON for plotly.js.

The layout of a panel is built once with the ``plotly`` package, which checks it; building whole
figures with it for every request would cost a hundred times as much. The numbers go out as plain
lists on a regular grid, which the page's script turns into traces in the reader's colours.

plotly.js interprets text as pseudo-HTML, so the script gives it none: names and reasons stand in
the heads of charts, which are written as text.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import orjson

from metrics.charts.gaps import without_values
from metrics.charts.panels import Column, Panel, columns
from metrics.query.answers import Gap, RangeAnswer
from metrics.query.comparison import change_of

POINTS = 720
LONGEST_NAME = 200
"""The length in characters to which an external name is cut."""

FULL = 0.995
"""A share from which on it counts as everything."""

FEW = 5
"""Below this count, an axis has one tick per item."""

MANY_TIMES = 10.0
"""From ten times more on, a change is shown as a factor."""

REASONS: dict[str, str] = {
    "": "no data",
    "tunnel_down": "the tunnel was down",
    "service_down": "the service behind the tunnel did not answer",
    "consent_off": "the agent's owner does not let the service through",
    "bad_response": "the answer was refused",
    "centre_down": "Ops Center did not pull, or could not store it",
    "not_enrolled": "recorded before this cluster joined",
    "agent_stopped": "nothing was recorded at the source",
    "collector_failed": "the agent ran, but saw nothing",
    "clock_jumped": "the clock of the source was set over it",
    "lost_at_source": "the source has no data of it",
    "source_restarted": "the source's data begins anew later",
    "spool_expired": "no longer kept at the source",
    "store_damaged": "what was stored is damaged",
    "pending": "not requested yet",
}
STATES: dict[str, str] = {"gap": "to be filled", "lost": "lost", "done": "filled"}


@dataclass(frozen=True, slots=True)
class Former:
    """The same panel of an earlier range, for comparison in the same chart.

    ``offset`` is how much earlier it is, in seconds, and ``title`` its name for display.
    """

    answers: Mapping[str, RangeAnswer]
    offset: int
    title: str


@dataclass(frozen=True, slots=True)
class _Grid:
    """A regular grid of times, which takes columns in the chart's unit."""

    origin: int
    step: int
    count: int
    divisor: float

    @classmethod
    def of(cls, answer: RangeAnswer, divisor: float) -> _Grid:
        step = answer.step
        count = max(0, math.ceil((answer.end - answer.start) / step))
        return cls(answer.start - answer.start % step, step, count + 1, divisor)

    def put(self, t: Sequence[int], values: Sequence[float | None]) -> list[float | None]:
        cells: list[float | None] = [None] * self.count
        for at, value in zip(t, values, strict=True):
            index = (at - self.origin) // self.step
            if 0 <= index < self.count and value is not None:
                cells[index] = _short(value / self.divisor)
        return cells


def figure(
    panel: Panel,
    answers: Mapping[str, RangeAnswer],
    *,
    capacity: float | None = None,
    capacity_title: str = "capacity",
    beyond: str = "",
    former: Former | None = None,
) -> bytes:
    """Return a panel's content as JSON.

    Args:
        panel: the panel.
        answers: a range answer for each field of the panel.
        capacity: a constant for the dashed line where the series has no such field (a pod on its
            node), in the panel's own unit; None for no line.
        capacity_title: title of the dashed line, external text that is cut here.
        beyond: text that replaces a dashed line far above the others; "" for none.
        former: an earlier range of the panel to compare with; None for none.
    """
    first = answers[panel.lines[0].field]
    found = columns(panel, answers)
    before = columns(panel, former.answers) if former else []
    limit = answers[panel.capacity] if panel.capacity else None
    tops = [_top(column) for column in (*found, *before)]
    tops.append(max(limit.mean, default=0) if limit else capacity or 0)
    divisor, suffix = _scale(panel.unit, max(tops))
    grid = _Grid.of(first, divisor)
    series = [_line(column, grid) for column in found]
    content: dict[str, Any] = {
        "layout": layout(panel.unit, few=max(tops) < FEW),
        "series": series,
        "t0": grid.origin,
        "step": first.step,
        "start": first.start,
        "end": first.end,
        "tier": first.tier,
        "unit": panel.unit,
        "divisor": divisor,
        "suffix": suffix,
        "gaps": [_gap(gap) for gap in missing(panel, answers)],
        "partial": _partial(first, grid),
        "empty": not any(column.t for column in (*found, *before)),
        "capacity": _dashed(grid, limit, capacity, capacity_title),
        "change": "",
        "covered": covered_text(sum(first.samples), first.due),
        "beyond": beyond,
    }
    if former:
        old = former.answers[panel.lines[0].field]
        old_grid = _Grid.of(old, divisor)
        for entry, column in zip(series, before, strict=True):
            entry["before"] = {
                "name": former.title,
                "t0": old_grid.origin + former.offset,
                "step": old.step,
                "values": old_grid.put(column.t, column.mean),
            }
        content["change"] = change_text(panel, answers, former)
    return chart_json(content)


def chart_json(content: Mapping[str, Any]) -> bytes:
    """Return content of a chart as JSON in which no name can look like a tag."""
    return orjson.dumps(content, option=orjson.OPT_NON_STR_KEYS).replace(b"<", b"\\u003c")


def _partial(answer: RangeAnswer, grid: _Grid) -> dict[int, str]:
    """Return "8 of 10" of the buckets that lack some of their minutes, by their place."""
    counts = zip(answer.t, answer.samples, answer.expected, strict=True)
    return {
        (at - grid.origin) // grid.step: f"{samples:,} of {expected:,}"
        for at, samples, expected in counts
        if samples < expected
    }


def _line(column: Column, grid: _Grid) -> dict[str, Any]:
    return {
        "name": column.line.title,
        "role": column.line.role,
        "mean": grid.put(column.t, column.mean),
        "min": grid.put(column.t, column.low),
        "max": grid.put(column.t, column.high),
    }


def _dashed(
    grid: _Grid, limit: RangeAnswer | None, capacity: float | None, title: str
) -> dict[str, Any] | None:
    """Return the dashed line: the series' own capacity, else a constant; None without either."""
    if limit is not None and len(limit.t):
        return {"name": "capacity", "values": grid.put(limit.t, limit.mean)}
    if capacity:
        values = [_short(capacity / grid.divisor)] * grid.count
        return {"name": title[:LONGEST_NAME], "values": values}
    return None


def change_text(panel: Panel, answers: Mapping[str, RangeAnswer], former: Former) -> str:
    """Return how the means of a panel's lines differ from the former range, in words.

    Notes the share of the range that both have, unless it is all, and the former range's tier if it
    is wider.
    """
    first, old = (each[panel.lines[0].field] for each in (answers, former.answers))
    parts, shares = [], []
    for now, before in zip(columns(panel, answers), columns(panel, former.answers), strict=True):
        change = change_of(
            now.t, now.mean, now.samples, first.step,
            before.t, before.mean, old.step, former.offset,
        )  # fmt: skip
        name = f"{now.line.title} " if len(panel.lines) > 1 else ""
        if change.former_mean is None:
            parts.append(f"{name}not known")
        elif change.ratio is None:
            parts.append(f"{name}was 0")
        else:
            parts.append(f"{name}{_signed(change.ratio)}")
        shares.append(change.share)
    notes = []
    if any(
        part != "not known" and 0 < share < FULL for part, share in zip(parts, shares, strict=True)
    ):
        notes.append(
            f"over the {min(s for s in shares if s):.0%} that both have".replace("%", " %")
        )
    if any(shares) and old.tier != first.tier:
        notes.append(f"then in buckets of {old.tier}")
    if not any(shares):
        return f"{former.title}: no data to compare with"
    return f"{former.title}: {', '.join(parts)}" + (f" ({'; '.join(notes)})" if notes else "")


def _signed(ratio: float) -> str:
    """Return a change with its sign, in percent; a large increase as a factor."""
    if abs(ratio) < 0.0005:
        return "unchanged"
    if ratio >= MANY_TIMES:
        return f"{ratio + 1:,.0f} times"
    sign = "\N{MINUS SIGN}" if ratio < 0 else "+"
    return f"{sign}{abs(ratio):.1%}".replace("%", " %")


@lru_cache(maxsize=16)
def layout(unit: str, *, few: bool = False) -> dict[str, Any]:
    """Return the layout of panels of a unit, built and checked by plotly, without colours.

    Colours come from the page's style sheet, for light and dark. With ``few`` counted items, the
    axis has only integers: there is no half restart.
    """
    from plotly import graph_objects  # heavy: only where a chart is drawn

    built = graph_objects.Layout(
        margin={"l": 62, "r": 12, "t": 8, "b": 36},
        hovermode=False,  # the page has one cross-hair over all charts
        dragmode="zoom",
        showlegend=False,
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        xaxis={
            "type": "linear",  # Unix seconds: the page's script labels them in its zone
            "tickangle": 0,
        },
        yaxis={
            "rangemode": "tozero",
            "fixedrange": True,
            "nticks": 5,
            "zeroline": False,
            "tickformat": ",.3~f",  # never an exponent
            **({"dtick": 1, "tickformat": "d"} if few and unit == "count" else {}),
        },
    )
    made: dict[str, Any] = built.to_plotly_json()
    return made


def missing(panel: Panel, answers: Mapping[str, RangeAnswer]) -> list[Gap]:
    """Return the gaps of a range where none of a panel's lines has a value, ascending."""
    first = answers[panel.lines[0].field]
    samples: dict[int, int] = {}
    for column in columns(panel, answers):
        for at, minutes in zip(column.t, column.samples, strict=True):
            samples[at] = max(minutes, samples.get(at, 0))
    return without_values(first.gaps, samples, first.step)


def covered_text(samples: int, due: int) -> str:
    """Return how many of a range's possible minutes it has, in words."""
    if not due:
        return "no data expected yet"
    return f"all {due:,} minutes" if samples >= due else f"{samples:,} of {due:,} minutes"


def reason_text(state: str, reason: str) -> str:
    """Return why a range has no data, in words: "no data: the tunnel was down (lost)"."""
    words = REASONS.get(reason, reason.replace("_", " "))
    state_text = STATES.get(state, state)
    return f"{words} ({state_text})" if reason else f"{words}, {state_text}"


def top_of(panel: Panel, answers: Mapping[str, RangeAnswer]) -> float:
    """Return the highest value of a panel's lines, in its own unit; 0 for none."""
    return max((_top(column) for column in columns(panel, answers)), default=0)


def _top(column: Column) -> float:
    """Return the highest value of a line; of its means where the extremes are not known."""
    known = [high for high in column.high if high is not None]
    return max([*known, *column.mean], default=0)


def _gap(gap: Gap) -> dict[str, Any]:
    return {
        "start": gap.start,
        "end": gap.end,
        "state": gap.state,
        "text": f"No data: {reason_text(gap.state, gap.reason)}",
    }


def _scale(unit: str, top: float) -> tuple[float, str]:
    """Return the divisor of a chart's values, and their unit after division."""
    if unit == "millicores":
        return (1000, " cores") if top >= 1000 else (1, " m")
    if unit == "load x1000":
        return 1000, ""
    if unit == "us":
        return 1000, " ms"
    if unit == "count":  # thousands are written out
        return (1, "") if top < 1e6 else (1e6, " M") if top < 1e9 else (1e9, " G")
    steps: dict[str, tuple[int, tuple[str, ...]]] = {
        "bytes": (1024, (" B", " KiB", " MiB", " GiB", " TiB", " PiB")),
        "bytes/s": (1000, (" B/s", " kB/s", " MB/s", " GB/s", " TB/s")),
    }
    if unit not in steps:
        return 1, ""
    base, names = steps[unit]
    power = 0
    while top >= base ** (power + 1) and power < len(names) - 1:
        power += 1
    return base**power, names[power]


def _short(value: float) -> float:
    """Return a number with five significant digits: more are not visible, and cost bytes."""
    return float(f"{value:.5g}")
