"""No sequence of writes, seals and expiries reads otherwise than without seals."""

from __future__ import annotations

from contextlib import contextmanager
from unittest.mock import patch
from uuid import uuid4

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metrics.series.catalog import FIELD_NAMES, TIERS
from metrics.series.rows import Cell, CoarseRow, MinuteRow
from metrics.stores.sqlite import rollup
from metrics.stores.sqlite.store import SqliteStore
from metrics.stores.writer import Batch
from tests.examples import examples
from tests.metrics.stores.contract import KEYS, STREAM
from tests.metrics.stores.sqlite.sealing import DAY, HOUR, START, everything

# Minutes in several hours, days and ten-day spans, and near their borders.
TIMES = [
    START + 60 * m
    for m in (0, 1, 59, 60, 61, 125, 600, 1439, 1440, 1500, 14_399, 14_400, 14_460, 20_000)
]

ROWS = st.sampled_from(KEYS).flatmap(
    lambda key: st.builds(
        MinuteRow,
        ts=st.sampled_from(TIMES),
        key=st.just(key),
        cells=st.lists(
            st.none()
            | st.integers(0, 99).map(lambda v: Cell(1 + v % 3, v * (1 + v % 3), v, v + 1)),
            min_size=len(FIELD_NAMES[key.kind]),
            max_size=len(FIELD_NAMES[key.kind]),
        ).map(tuple),
    )
)

COARSE = st.sampled_from(KEYS).flatmap(
    lambda key: st.builds(
        lambda ts, tier, n, value: CoarseRow(
            tier,
            ts - ts % TIERS[tier],
            key,
            tuple(Cell(n, n * value, None, value) for _ in FIELD_NAMES[key.kind]),
        ),
        st.sampled_from(TIMES),
        st.sampled_from(["10m", "1h"]),
        st.sampled_from([1, 5, 10]),
        st.integers(0, 99),
    )
)

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.lists(ROWS, max_size=20), st.lists(COARSE, max_size=3)),
        st.tuples(st.just("seal"), st.sampled_from([0, 3 * HOUR, 2 * DAY, 25 * DAY])),
        st.tuples(
            st.just("expire"),
            st.sampled_from(list(FIELD_NAMES)),
            st.sampled_from(list(TIERS)),
            st.sampled_from([*TIMES, START + 40 * DAY]),
        ),
        st.tuples(st.just("forget"), st.sampled_from(TIMES)),
    ),
    min_size=2,
    max_size=8,
)


def assert_alike(stores, ask):
    first, *others = (ask(store) for store in stores)
    for other in others:
        assert other == first


def counts(store, cluster):
    """Return how many rows there are of each kind and tier, and their checksums."""
    span = (START - DAY, START + 40 * DAY)
    return {
        (kind, tier): store.counts(cluster, kind, tier, *span)
        for kind in FIELD_NAMES
        for tier in TIERS
    }


@contextmanager
def rolled_up_at_once(wanted):
    """Let a store recompute every touched bucket in each write, as if none were open."""
    touch = rollup.touch
    end = 1 << 40
    with patch.object(rollup, "touch", lambda *a: touch(*a[:3], end if wanted else a[3])):
        yield


@settings(
    max_examples=examples(15),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=STEPS)
def test_sealed_or_not_makes_no_difference_to_any_read(tmp_path, steps):
    cluster = uuid4()
    names = ("sealed", "plain", "eager")
    stores = [SqliteStore(tmp_path / f"{cluster}-{name}") for name in names]
    for step in steps:
        for store in stores:
            match step:
                case "write", rows, wider:
                    with rolled_up_at_once(store is stores[2]):
                        store.write(cluster, STREAM, Batch(rows=rows, coarse=wider))
                case "seal", later if store is stores[0]:
                    store.maintain(max(TIMES) + later)
                case "expire", kind, tier, before:
                    store.expire(cluster, kind, tier, before)
                case "forget", before:
                    store.forget(cluster, before)
        assert_alike(stores, lambda store: counts(store, cluster))
    assert_alike(stores, lambda store: everything(store, cluster))
    for store in stores:
        assert store.check() == "ok"
        store.close()
