"""Whatever a server answers: checked rows of what was asked for, or an error by its name."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics.series.rollups import LARGEST
from metrics.series.source_answer import SourceAnswer
from metrics.sources.agent.source import AgentSource
from metrics.sources.base import Probe
from metrics.sources.etcd import scrape_etcd
from metrics.sources.influxdb1.source import InfluxSource
from metrics.sources.influxdb2.source import Influx2Source
from metrics.sources.parse_concurrency import ParseSlot
from metrics.sources.plausible import plausible
from metrics.sources.prometheus.source import PrometheusSource
from metrics.sources.validation import MAX_MOMENT
from opscenter.core.errors import ClusterError
from tests.examples import examples
from tests.metrics.sources import spoiling
from tests.metrics.sources.spoiling import END, NOW, START, SpoiledClient

HOUR = NOW // 3600 * 3600
OLD, OLDER = HOUR - 5 * 86_400, HOUR - 30 * 86_400  # Gravity keeps only wider values of them
MAKERS: dict[str, tuple[Callable[[], Any], spoiling.Answers]] = {
    "agent": (AgentSource, spoiling.agent),
    "prometheus": (PrometheusSource, spoiling.prometheus),
    "influxdb": (InfluxSource, spoiling.influxdb),
    "influxdb2": (lambda: Influx2Source("o", "b"), spoiling.influxdb2),
}
FETCHES = [
    *((name, START, END) for name in MAKERS),
    *((name, START, START + 120) for name in MAKERS),
    ("influxdb", OLD, OLD + 7200),
    ("influxdb", OLDER, OLDER + 7200),
]
seeds = given(seed=st.integers(0, 2**32))


async def fetch(name: str, start: int, end: int, client: SpoiledClient) -> SourceAnswer:
    source = MAKERS[name][0]()
    with ParseSlot("live") as slot:
        return plausible(await source.fetch(client, start, end, now=float(NOW), slot=slot))


def client_of(name: str, seed: int, parts: int = 3) -> SpoiledClient:
    return SpoiledClient(MAKERS[name][1], Random(seed), parts=parts)


def check_moment(moment: float | None) -> None:
    assert moment is None or 0 <= moment <= MAX_MOMENT


def check(answer: SourceAnswer) -> None:
    asked = range(answer.start, answer.end)
    for row in answer.rows:
        assert row.ts in asked
        assert row.ts % 60 == 0
        assert all(cell is None or 0 <= cell.total <= LARGEST * cell.n for cell in row.cells)
    assert all(type(row.ts) is int and row.ts >= 0 for row in answer.coarse)
    assert all(minute in asked for minute in answer.minutes_alive)
    for info in answer.infos:
        assert "".join((*info.key[1:], info.node, *info.attrs, *info.attrs.values())).isprintable()
    for moment in (answer.oldest, answer.newest_end, answer.now):
        check_moment(moment)


def check_error(error: ClusterError) -> None:
    assert str(error).isprintable()
    assert len(str(error)) < 600


@pytest.mark.parametrize(("name", "start", "end"), FETCHES)
async def test_the_answers_that_are_spoiled_are_good_ones(name: str, start: int, end: int):
    answer = await fetch(name, start, end, client_of(name, 0, parts=0))
    assert answer.end > start
    assert {row.key.kind for row in answer.rows or answer.coarse} >= {"node", "pod"}


@pytest.mark.parametrize(("name", "start", "end"), FETCHES)
@settings(max_examples=examples(150))
@seeds
async def test_a_spoiled_answer_is_refused_by_name_or_gives_checked_rows(
    name: str, start: int, end: int, seed: int
):
    try:
        check(await fetch(name, start, end, client_of(name, seed)))
    except ClusterError as error:
        check_error(error)


@pytest.mark.parametrize("name", ["prometheus", "influxdb", "influxdb2"])
@settings(max_examples=examples(150))
@seeds
async def test_a_test_of_a_source_with_spoiled_answers_ends_in_a_report(name: str, seed: int):
    try:
        found: Probe = await MAKERS[name][0]().probe(client_of(name, seed), now=float(NOW))
    except ClusterError as error:
        check_error(error)
    else:
        check_moment(found.oldest)
        check_moment(found.newest)
        assert all(count >= 0 for count in found.series.values())


@settings(max_examples=examples(300))
@seeds
async def test_a_spoiled_page_of_etcd_is_refused_or_gives_what_a_store_holds(seed: int):
    client = SpoiledClient(spoiling.etcd, Random(seed), parts=3)
    try:
        first = await scrape_etcd(client, None, now=1.0)
        second = await scrape_etcd(client, first.state, now=60.0)
    except ClusterError as error:
        check_error(error)
    else:
        assert all(value is None or 0 <= value <= LARGEST
                   for value in (second.fsync_us, second.leader_changes))  # fmt: skip
