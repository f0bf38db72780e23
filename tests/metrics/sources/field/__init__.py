"""Inputs that broke other monitoring software, from public reports, and what must become of them.

Each file names its report, what goes in, and what must come out.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from metrics.series.catalog import FIELD_NAMES
from metrics.series.rows import SeriesKey
from metrics.series.source_answer import SourceAnswer


def load(name: str) -> dict[str, Any]:
    """Return one input by the name of its file."""
    return json.loads(Path(__file__).with_name(f"{name}.json").read_text(encoding="utf-8"))


def values(answer: SourceAnswer, kind: str, ns: str, name: str, field: str) -> list[int | None]:
    """Return one field of one series, minute by minute; [] if the series has no row."""
    key = SeriesKey(kind, ns, name)  # type: ignore[arg-type]
    at = FIELD_NAMES[key.kind].index(field)
    return [
        None if row.cells[at] is None else row.cells[at].total
        for row in answer.rows
        if row.key == key
    ]


def check(answer: SourceAnswer, field_input: dict[str, Any]) -> None:
    """Check the newest minute of an answer, or all minutes, as the input says."""
    for wanted in field_input["checks"]:
        place = (wanted["kind"], wanted.get("ns", ""), wanted["name"], wanted["field"])
        found = values(answer, *place)
        newest = found[-1] if found else None
        if "minutes" in wanted:
            assert found == wanted["minutes"], place
        elif wanted.get("none"):
            assert newest is None, place
        elif "equals" in wanted:
            assert newest == wanted["equals"], place
        elif newest is None:
            assert wanted.get("or_none"), place
        else:
            low, high = wanted["between"]
            assert low <= newest <= high, place
