"""M11: what Python costs a row: an answer's JSON into rows, and rows into what a store takes.

The floor of decoding is the JSON parser alone, of encoding the write of ready tuples.
"""

from __future__ import annotations

import time

import orjson

from metrics.sources.agent import parse_answer
from metrics.stores.sqlite_rows import minute_values
from tests.bench.answering import AnsweringCluster
from tests.bench.report import Report, seconds_of
from tests.bench.workload import make_fleet

AREA = "python"
MINUTES = 10
ROUNDS = 9


def run(report: Report) -> None:
    """Measure ten minutes of one cluster of 310 series."""
    start = int(time.time()) // 3600 * 3600 - 7200
    [cluster] = make_fleet(1, MINUTES, start, nodes=10)
    far = AnsweringCluster(cluster)
    far.now = start + 60 * MINUTES + 6.0
    end = start + 60 * MINUTES
    body = far.body(start, end)
    rows = list(parse_answer(orjson.loads(body), start, end, now=far.now).rows)
    per_row = 1e6 / len(rows)
    parse, decode, encode = [], [], []
    for _ in range(ROUNDS):
        parse.append(per_row * seconds_of(lambda: orjson.loads(body)))
        decode.append(
            per_row
            * seconds_of(
                lambda: list(parse_answer(orjson.loads(body), start, end, now=far.now).rows)
            )
        )
        encode.append(per_row * seconds_of(lambda: [minute_values(row, 1) for row in rows]))
    about = f"{len(rows):,} rows, {cluster.values / len(rows):.1f} values each, {len(body):,} bytes"
    report.compare(AREA, "M11 decode: agent's JSON to rows", "us/row", decode, "orjson alone",
                   parse, about)  # fmt: skip
    report.compare(AREA, "M11 encode: rows for SQLite", "us/row", encode, "orjson alone", parse)
