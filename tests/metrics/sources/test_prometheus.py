"""The Prometheus source against a real Prometheus and a real VictoriaMetrics."""

from __future__ import annotations

import time

import pytest

from metrics.catalog import FIELD_NAMES
from metrics.sources.base import SourceAnswer
from metrics.sources.prometheus import PrometheusSource
from metrics.stores.base import SeriesKey
from metrics.turns import Turn
from tests.metrics.sources.prometheus_seeds import MINUTES, Seeds
from tests.metrics.sources.prometheus_world import MINUTE, Expected, Prometheus, VictoriaMetrics
from tests.servers.client import DirectClient

Values = dict[tuple[int, SeriesKey], dict[str, int]]


async def fetch(port: int, start: int, end: int, **options: object) -> SourceAnswer:
    async with DirectClient(port) as client:
        source = PrometheusSource(**options)
        with Turn("live") as turn:
            return await source.fetch(client, start, end, now=time.time(), turn=turn)


def values_of(answer: SourceAnswer) -> Values:
    """Return every value of an answer; each is one sample's minute, and no row comes twice."""
    found: Values = {}
    for row in answer.rows:
        names = FIELD_NAMES[row.key.kind]
        there = {n: c for n, c in zip(names, row.cells, strict=True) if c is not None}
        assert all(c.n == 1 and c.total == c.low == c.high for c in there.values())
        assert (row.ts, row.key) not in found
        found[row.ts, row.key] = {name: cell.total for name, cell in there.items()}
    return found


def differences(found: Values, expected: Expected) -> list[str]:
    """Return one line for each number that is missing, too many, or not the rounded true one."""
    lines = []
    for at in sorted(found.keys() | expected.keys()):
        have, want = found.get(at, {}), expected.get(at, {})
        for name in sorted(have.keys() | want.keys()):
            one, true = have.get(name), want.get(name)
            if (
                one is None
                or true is None
                or abs(one - true) > 0.5 + 1e-6 * max(1, abs(true) * 1e-6)
            ):
                lines.append(f"{at[0] // 60 % 1440} {at[1]} {name}: {one} instead of {true}")
    return lines


@pytest.mark.parametrize("name", ["modern", "legacy", "machines"])
async def test_every_number_of_an_hour_is_the_true_one(
    name: str, known: Seeds, seeded_prometheus: int
):
    world, oracle = known.oracle(name, Prometheus())
    start, end = world.start + 5 * MINUTE, world.start + MINUTES * MINUTE
    answer = await fetch(seeded_prometheus, start, end)
    expected = oracle.expected(start, end)
    assert len(expected) > 100
    assert differences(values_of(answer), expected) == []
    assert (answer.start, answer.end) == (start, end)
    assert [row.ts for row in answer.rows] == sorted(row.ts for row in answer.rows)


@pytest.mark.parametrize("name", ["modern", "legacy", "machines"])
async def test_victoriametrics_gives_the_true_numbers_too(
    name: str, known: Seeds, seeded_victoriametrics: int
):
    world, oracle = known.oracle(name, VictoriaMetrics())
    start, end = world.start + 5 * MINUTE, world.start + MINUTES * MINUTE
    answer = await fetch(seeded_victoriametrics, start, end)
    assert differences(values_of(answer), oracle.expected(start, end)) == []
