"""M11: what Python costs a row: an answer's JSON into columns, and columns into a table's rows.

The floor of both is the JSON parser alone.
"""

from __future__ import annotations

import time
from typing import cast

import orjson

from metrics.series.minute_columns import Minutes
from metrics.series.rows import SeriesKey
from metrics.sources.agent.responses import parse_answer
from metrics.stores.sqlite.columns import table_values
from metrics.stores.sqlite.series import Series
from tests.bench.answering import AnsweringCluster
from tests.bench.report import Report, seconds_of
from tests.bench.workload import make_fleet

AREA = "python"
MINUTES = 10
ROUNDS = 9


class _Numbers:
    """Numbers series as the store does, without a file."""

    def __init__(self) -> None:
        self._numbers: dict[SeriesKey, int] = {}

    def sid(self, key: SeriesKey, ts: int) -> int:
        """Return a series' number."""
        del ts
        return self._numbers.setdefault(key, len(self._numbers))


def run(report: Report) -> None:
    """Measure ten minutes of one cluster of 310 series."""
    start = int(time.time()) // 3600 * 3600 - 7200
    [cluster] = make_fleet(1, MINUTES, start, nodes=10)
    far = AnsweringCluster(cluster)
    far.now = start + 60 * MINUTES + 6.0
    end = start + 60 * MINUTES
    body = far.body(start, end)

    def decoded() -> Minutes:
        return cast("Minutes", parse_answer(orjson.loads(body), start, end, now=far.now).rows)

    rows = decoded()
    per_row, series = 1e6 / len(rows), cast("Series", _Numbers())
    parse, decode, encode = [], [], []
    for _ in range(ROUNDS):
        parse.append(per_row * seconds_of(lambda: orjson.loads(body)))
        decode.append(per_row * seconds_of(decoded))
        encode.append(
            per_row * seconds_of(lambda: [table_values(table, series) for table in rows.tables])
        )
    about = f"{len(rows):,} rows, {cluster.values / len(rows):.1f} values each, {len(body):,} bytes"
    report.compare(AREA, "M11 decode: agent's JSON to checked columns", "us/row", decode,
                   "orjson alone", parse, about)  # fmt: skip
    report.compare(AREA, "M11 encode: columns to a table's rows", "us/row", encode,
                   "orjson alone", parse)  # fmt: skip
