"""What tests of sealed hours share."""

from __future__ import annotations

import sqlite3

from metrics.series.catalog import FIELD_NAMES, TIERS
from metrics.series.rows import Cell, MinuteRow
from metrics.stores.writer import Batch
from tests.metrics.stores.contract import CLUSTER, KEYS, NODE, POD, T0

HOUR, DAY = 3600, 86_400

START = T0 // (10 * DAY) * 10 * DAY


def count(path, query="SELECT count(*) FROM chunk"):
    connection = sqlite3.connect(path)
    (found,) = connection.execute(query).fetchone()
    connection.close()
    return found


def everything(store, cluster, keys=(*KEYS, CLUSTER)):
    """Return all that reads say of a cluster, by every way to ask."""
    span = (START - DAY, START + 40 * DAY)
    found = []
    for kind, names in FIELD_NAMES.items():
        for tier in TIERS:
            found.append((kind, tier, store.counts(cluster, kind, tier, *span)))
            found.append(list(store.scan(cluster, kind, tier, START + 120, START + 2 * DAY)))
            for field in names[:2]:
                found.append(store.read_many(cluster, kind, field, tier, *span))
                found += [
                    store.top([cluster], kind, field, tier, *span, limit=3, by=by)
                    for by in ("mean", "max")
                ]
    for key in keys:
        for tier in TIERS:
            names = FIELD_NAMES[key.kind]
            found.append(store.read_fields(cluster, key, names, tier, *span))
            found.append(store.read(cluster, key, names[0], tier, START + 90, START + 3 * HOUR))
    found.append(store.series(cluster))
    return found


def hours(count, keys=(NODE, POD), start=START):
    """Return a batch of whole hours in which every field moves."""
    rows = [
        MinuteRow(ts, key, tuple(Cell(2, 2 * v, v - 1, v + 1) for v in values))
        for ts in range(start, start + count * HOUR, 60)
        for key in keys
        for values in [[ts // 60 % 97 + at for at in range(len(FIELD_NAMES[key.kind]))]]
    ]
    return Batch(rows=rows)
