"""What tests of reads store."""

from __future__ import annotations

from metrics.query import STREAM
from metrics.stores import get_store
from metrics.stores.writer import Batch
from tests.metrics.stores.contract import T0, row

DAY = 86_400
NOW = T0 + 7200


def write(cluster, rows=(), **batch):
    get_store().write(cluster.id, STREAM, Batch(rows=rows, **batch))


def minutes(key, start, count, **fields):
    return [row(key, start + 60 * m, **fields) for m in range(count)]
