"""etcd's own metrics: the percentile between two scrapes, restarts, nonsense, and a real etcd."""

from __future__ import annotations

import time
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics.pulling.etcd import control_plane
from metrics.series.catalog import FIELD_NAMES
from metrics.series.rows import Cell, MinuteRow, SeriesInfo, SeriesKey
from metrics.series.source_answer import SourceAnswer
from metrics.sources.etcd import (
    MAX_AGE_SECONDS,
    EtcdReading,
    EtcdSource,
    believable,
    p99_us,
    read_scrape,
    scrape_etcd,
    with_etcd,
)
from opscenter.core.errors import BadResponseError, ServiceUnavailableError
from tests.servers.client import DirectClient
from tests.servers.etcd import etcd, put
from tests.servers.process import free_port
from tests.servers.prometheus import prometheus

INF = float("inf")
NOW = 1_800_000_000.0


def page(*counts: float, changes: int = 1) -> str:
    bounds = ("0.001", "0.002", "0.004", "+Inf")
    lines = [
        f'etcd_disk_wal_fsync_duration_seconds_bucket{{le="{bound}"}} {count}'
        for bound, count in zip(bounds, counts, strict=True)
    ]
    return "\n".join(["# HELP x", *lines, f"etcd_server_leader_changes_seen_total {changes}", ""])


def second(first: str, then: str, seconds: float = 60) -> EtcdReading:
    before = read_scrape(first, None, now=NOW)
    kept = orjson.loads(orjson.dumps(before.state))  # as it is stored between two pulls
    return read_scrape(then, kept, now=NOW + seconds)


def test_the_first_scrape_has_leader_changes_and_no_percentile_yet():
    first = read_scrape(page(5, 6, 7, 7, changes=3), None, now=NOW)
    assert (first.fsync_us, first.leader_changes) == (None, 3)


def test_the_percentile_is_that_of_what_happened_between_two_scrapes():
    # 100 syncs: 90 within 1 ms, 10 within 2 ms. The 99th is 9 tenths into the second bucket.
    assert second(page(1000, 1000, 1000, 1000), page(1090, 1100, 1100, 1100)).fsync_us == 1900


def test_syncs_beyond_the_last_bound_count_as_that_bound():
    assert second(page(0, 0, 0, 0), page(0, 0, 0, 10)).fsync_us == 4000


def test_values_that_no_etcd_has_are_left_out_and_counted():
    good = EtcdReading(1000, 3, {})
    assert believable(good) == (good, {})
    kept, refused = believable(EtcdReading(10**15, 10**12, {"at": 1}))
    assert kept == EtcdReading(None, None, {"at": 1})
    assert refused == {
        "node etcd_fsync_us more than any machine has": 1,
        "node etcd_leader_changes more than any machine has": 1,
    }


def test_a_restart_of_etcd_gives_no_percentile_and_the_next_scrape_has_one_again():
    assert second(page(50, 60, 70, 70), page(1, 2, 2, 2)).fsync_us is None
    assert second(page(1, 2, 2, 2), page(1, 3, 3, 3)).fsync_us is not None


def test_no_sync_between_two_scrapes_gives_no_percentile():
    assert second(page(5, 6, 7, 7), page(5, 6, 7, 7)).fsync_us is None


def test_a_scrape_from_long_ago_says_nothing_of_the_newest_minute():
    assert second(page(0, 0, 0, 0), page(5, 6, 7, 7), MAX_AGE_SECONDS + 1).fsync_us is None


@pytest.mark.parametrize("state", [{}, {"at": "x"}, {"at": NOW, "buckets": 5}, {"at": NOW}])
def test_a_state_that_cannot_be_read_begins_anew(state: dict):
    assert read_scrape(page(5, 6, 7, 7), state, now=NOW + 60).fsync_us is None


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        ("not_json", ""),
        ("not_json", "<html>sign in</html>"),
        ("not_json", "node_load1 0.5\n"),
        ("bad_value", page(5, 6, 7, 7).replace(" 7", " NaN")),
        ("bad_value", page(5, 6, 7, 7).replace(" 7", " +Inf")),
        ("bad_value", page(5, 6, 7, 7).replace(" 7", " -1")),
        ("bad_value", page(5, 6, 7, 7).replace(" 7", " seven")),
        ("bad_value", page(5, 6, 7, 7).replace('"0.001"', '"fast"')),
        ("duplicate_series", page(5, 6, 7, 7) * 2),
        ("cut_off", page(5, 6, 7, 7).rstrip()),
        ("cut_off", page(5, 6, 7, 7).partition('{le="0.004"}')[0]),
        (
            "too_many_series",
            "\n".join(
                f'etcd_disk_wal_fsync_duration_seconds_bucket{{le="{n}"}} 1' for n in range(5000)
            ),
        ),
    ],
)
def test_what_is_no_page_of_an_etcd_is_refused(problem: str, text: str):
    with pytest.raises(BadResponseError) as refused:
        read_scrape(text, None, now=NOW)
    assert refused.value.problem == problem


def test_the_order_of_lines_does_not_matter():
    lines = page(5, 6, 7, 7).splitlines()
    turned = read_scrape("\n".join([*reversed(lines), ""]), None, now=NOW)
    kept = turned.state["buckets"]
    assert sorted(kept) == sorted(read_scrape(page(5, 6, 7, 7), None, now=NOW).state["buckets"])


@given(
    st.lists(st.integers(0, 1000), min_size=4, max_size=4),
    st.lists(st.integers(0, 1000), min_size=4, max_size=4),
)
def test_the_percentile_lies_within_the_bounds(first: list[int], grown: list[int]):
    bounds = (0.001, 0.002, 0.004, INF)
    before = dict(zip(bounds, sorted(first), strict=True))
    after = {bound: before[bound] + more for bound, more in zip(bounds, sorted(grown), strict=True)}
    found = p99_us(before, after)
    assert (found is None) == (max(grown) == 0)
    assert found is None or 0 <= found <= 4000


def _row(ts: int, name: str) -> MinuteRow:
    return MinuteRow(ts, SeriesKey("node", "", name), (None,) * len(FIELD_NAMES["node"]))


def test_a_reading_goes_into_the_newest_minute_of_the_node_that_etcd_runs_on():
    rows = [_row(60, "a"), _row(60, "b"), _row(120, "a"), _row(120, "b")]
    changed = with_etcd(rows, EtcdReading(1900, None, {}), nodes=("gone", "b"))
    assert changed[:3] == rows[:3]
    at = FIELD_NAMES["node"].index("etcd_fsync_us")
    assert changed[3].cells[at] == Cell(1, 1900, 1900, 1900)
    assert sum(cell is not None for cell in changed[3].cells) == 1


def test_without_a_node_there_is_nothing_to_put_a_reading_into():
    assert with_etcd([], EtcdReading(1900, 2, {})) == []


@pytest.mark.usefixtures("starts_servers")
async def test_a_test_of_etcd_says_its_version_and_what_it_tells(tmp_path: Path):
    with etcd(tmp_path) as port:
        async with DirectClient(port) as client:
            found = await EtcdSource().probe(client, now=NOW)
    assert (found.product, found.version[:1], found.newest) == ("etcd", "3", NOW)
    assert [(one.field, one.series) for one in found.fields] == [
        ("etcd_fsync_us", 1), ("etcd_leader_changes", 1),
    ]  # fmt: skip


@pytest.mark.usefixtures("starts_servers")
async def test_a_real_etcd_and_the_prometheus_that_scrapes_it_say_the_same(tmp_path: Path):
    for name in ("etcd", "prometheus"):
        (tmp_path / name).mkdir()
    with etcd(tmp_path / "etcd") as port:
        async with DirectClient(port) as client:
            first = await scrape_etcd(client, None, now=NOW)
            for number in range(50):
                put(port, f"key{number}", "x" * 100)
            then = await scrape_etcd(client, first.state, now=NOW + 60)
    assert first.fsync_us is None
    assert then.leader_changes == 1
    assert then.fsync_us is not None
    assert 1 <= then.fsync_us <= 10_000_000
    # The same two pages by Prometheus' own histogram_quantile.
    at = int(time.time()) // 60 * 60 - 3600
    pages = [(at, first), (at + 60, then)]
    series = [
        (
            "fsync_bucket",
            {"le": bound if bound != "inf" else "+Inf"},
            [(moment, dict(reading.state["buckets"])[bound]) for moment, reading in pages],
        )
        for bound, _ in then.state["buckets"]
    ]
    with prometheus(tmp_path / "prometheus", series=series) as port:
        async with DirectClient(port) as client:
            query = "1e6*histogram_quantile(0.99,fsync_bucket-(fsync_bucket offset 1m))"
            form = {"query": query, "time": str(at + 60)}
            answer = await client.post_form_json("/api/v1/query", form)
    assert round(float(answer["data"]["result"][0]["value"][1])) == then.fsync_us


@pytest.mark.usefixtures("starts_servers")
async def test_an_etcd_that_is_not_there_is_a_service_that_is_down():
    async with DirectClient(free_port(), deadline_seconds=5) as client:
        with pytest.raises(ServiceUnavailableError):
            await scrape_etcd(client, None, now=NOW)


@pytest.mark.parametrize("bound", ["1e300", "-Inf", "-1", "0", "NaN", ""])
def test_a_bound_that_is_no_time_is_refused(bound: str):
    with pytest.raises(BadResponseError):
        read_scrape(page(1, 2, 3, 4).replace("0.004", bound), None, now=NOW)


def test_a_page_that_is_made_to_be_slow_to_read_is_not():
    name = "etcd_disk_wal_fsync_duration_seconds_bucket"
    slow = f"{name}{{" + ',le=""' * 500_000 + "\n" + f"{name}{{\n" * 100_000
    with pytest.raises(BadResponseError):
        read_scrape(slow, None, now=NOW)


def test_without_a_setting_etcd_is_on_a_node_of_the_control_plane():
    rows = [_row(60, "n1"), _row(60, "n2")]
    infos = [
        SeriesInfo(SeriesKey("node", "", "n1"), attrs={"roles": "worker"}),
        SeriesInfo(SeriesKey("node", "", "n2"), attrs={"roles": "control-plane,etcd"}),
    ]
    answer = SourceAnswer(
        rows=rows, infos=infos, start=0, end=120, oldest=0, newest_end=120, now=130.0,
        agent_version="", kind="kubernetes", minutes_alive=frozenset({60}),
    )  # fmt: skip
    assert control_plane(answer) == ["n2"]
