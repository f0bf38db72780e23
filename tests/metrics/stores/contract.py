"""What every metric store must do: a store's tests subclass :class:`StoreContract`.

The expected numbers come from :class:`Model`, a store in plain dictionaries that knows nothing
of SQL and uses :mod:`metrics.series.rollups` alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metrics.series import rollups
from metrics.series.catalog import FIELD_NAMES, TIERS
from metrics.series.rows import Cell, CoarseRow, Columns, MinuteRow, SeriesInfo, SeriesKey
from metrics.series.windows import Position, Window
from metrics.stores import StoreError, checksum
from metrics.stores.base import MetricStore
from metrics.stores.copier import StoredRow
from metrics.stores.reader import LastRow, TopRow
from metrics.stores.writer import Batch
from tests.examples import examples

T0 = 1_700_000_000 // 3600 * 3600
NODE = SeriesKey("node", "", "n1")
POD = SeriesKey("pod", "default", "web-1")
CLUSTER = SeriesKey("cluster", "", "")
STREAM = "agent"


def cell(value: int, *, n: int = 1, low: int | None = None, high: int | None = None) -> Cell:
    return Cell(n, value * n, value if low is None else low, value if high is None else high)


def row(key: SeriesKey, ts: int, **fields: Cell | int | None) -> MinuteRow:
    cells = (fields.get(name) for name in FIELD_NAMES[key.kind])
    return MinuteRow(ts, key, tuple(cell(c) if isinstance(c, int) else c for c in cells))


def coarse(key: SeriesKey, tier: str, ts: int, **fields: Cell | int | None) -> CoarseRow:
    return CoarseRow(tier, ts, key, row(key, ts, **fields).cells)


def window(start: int, end: int, state: str = "done", **changes) -> Window:
    minutes = (end - start) // 60
    known = {
        "got": minutes if state == "done" else 0,
        "expected": minutes,
        "attempts": 1,
        "reason": "" if state == "done" else "tunnel_down",
        "detail": "",
        "filled_at": None,
    }
    return Window(start, end, state, **{**known, **changes})


class Model:
    """A store of one cluster in dictionaries, as slow and as plain as can be."""

    def __init__(self) -> None:
        self.samples: dict[tuple[SeriesKey, int], int] = {}
        self.minutes: dict[SeriesKey, dict[int, tuple[Cell | None, ...]]] = defaultdict(dict)

    def write(self, batch: Batch) -> None:
        for entry in batch.rows:
            cells = tuple(rollups.minute(c) for c in entry.cells)
            samples = max(
                (
                    c.n
                    for c, retention_seconds in zip(entry.cells, cells, strict=True)
                    if c and retention_seconds
                ),
                default=0,
            )
            if samples >= self.samples.get((entry.key, entry.ts), 0):
                self.samples[entry.key, entry.ts] = samples
                self.minutes[entry.key][entry.ts] = cells
        for ts in {entry.ts for entry in batch.rows if entry.key.kind == "node"}:
            nodes = [
                by_ts[ts]
                for key, by_ts in self.minutes.items()
                if key.kind == "node" and ts in by_ts
            ]
            self.minutes[CLUSTER][ts] = rollups.cluster_minute(nodes)

    def read(self, key: SeriesKey, field: str, tier: str, start: int, end: int) -> Columns:
        at = FIELD_NAMES[key.kind].index(field)
        buckets: dict[int, list[Cell | None]] = defaultdict(list)
        for ts, cells in self.minutes[key].items():
            buckets[rollups.bucket_start(ts, TIERS[tier])].append(cells[at])
        found = Columns([], [], [], [], [])
        for ts in sorted(buckets):
            merged = rollups.merge(buckets[ts])
            if merged and start <= ts < end:
                found.t.append(ts)
                found.n.append(merged.n)
                found.total.append(merged.total)
                found.low.append(merged.low)
                found.high.append(merged.high)
        return found


def _cells(kind: str) -> st.SearchStrategy[tuple[Cell | None, ...]]:
    value = st.integers(-(2**58), 2**58) | st.integers(0, 1000)
    made = st.builds(
        lambda values: Cell(len(values), sum(values), min(values), max(values)),
        st.lists(value, min_size=1, max_size=4),
    )
    count = len(FIELD_NAMES[kind])
    return st.lists(st.none() | made, min_size=count, max_size=count).map(tuple)


KEYS = (
    NODE,
    SeriesKey("node", "", "n2"),
    SeriesKey("filesystem", "n1", "/"),
    POD,
    SeriesKey("pod", "kube-system", "web-1"),
)
# Two hours, thinly: enough for shared buckets in every tier.
MINUTES = [T0 + 60 * m for m in (0, 1, 2, 9, 10, 11, 59, 60, 61, 119)]
ROWS = st.sampled_from(KEYS).flatmap(
    lambda key: st.builds(
        MinuteRow, ts=st.sampled_from(MINUTES), key=st.just(key), cells=_cells(key.kind)
    )
)
BATCHES = st.lists(st.lists(ROWS, max_size=12).map(lambda rows: Batch(rows=rows)), max_size=6)


class StoreContract:
    """Subclass it and give the fixtures ``store`` and ``new_store``."""

    @pytest.fixture
    def new_store(self) -> Iterator[Callable[[], MetricStore]]:
        raise NotImplementedError

    @pytest.fixture
    def store(self, new_store) -> MetricStore:
        return new_store()

    @pytest.fixture
    def cluster(self) -> UUID:
        return uuid4()

    def test_a_minute_comes_back_as_mean_low_and_high(self, store, cluster):
        store.write(cluster, STREAM, Batch(rows=[row(POD, T0, cpu_mc=Cell(4, 10, 1, 5))]))
        assert store.read(cluster, POD, "cpu_mc", "1m", T0, T0 + 60) == Columns(
            [T0], [1], [3], [1], [5]
        )

    def test_a_missing_value_is_no_zero(self, store, cluster):
        store.write(cluster, STREAM, Batch(rows=[row(POD, T0, cpu_mc=0)]))
        assert store.read(cluster, POD, "cpu_mc", "1h", T0, T0 + 3600).total == [0]
        assert store.read(cluster, POD, "mem_ws", "1h", T0, T0 + 3600).t == []
        assert store.last_one(cluster, POD).values[:2] == (0, None)

    def test_wider_tiers_count_minutes_and_add_up_their_means(self, store, cluster):
        rows = [row(POD, T0 + 60 * m, cpu_mc=Cell(2, 2 * m, m - 1, m + 1)) for m in range(75)]
        store.write(cluster, STREAM, Batch(rows=rows))
        assert store.read(cluster, POD, "cpu_mc", "10m", T0, T0 + 1200) == Columns(
            [T0, T0 + 600], [10, 10], [45, 145], [-1, 9], [10, 20]
        )
        assert store.read(cluster, POD, "cpu_mc", "1h", T0, T0 + 7200) == Columns(
            [T0, T0 + 3600], [60, 15], [1770, 1005], [-1, 59], [60, 75]
        )

    def test_the_same_batch_again_changes_nothing(self, store, cluster):
        batch = Batch(
            rows=[row(NODE, T0 + 60 * m, cpu_mc=m, ready=1) for m in range(20)],
            windows=[window(T0, T0 + 1200)],
            watermark=T0 + 1200,
            head=T0 + 1200,
        )
        store.write(cluster, STREAM, batch)
        before = self.everything(store, cluster)
        store.write(cluster, STREAM, batch)
        assert self.everything(store, cluster) == before

    def test_a_minute_over_fewer_samples_never_replaces_one_over_more(self, store, cluster):
        store.write(cluster, STREAM, Batch(rows=[row(POD, T0, cpu_mc=cell(7, n=4))]))
        store.write(cluster, STREAM, Batch(rows=[row(POD, T0, cpu_mc=cell(9, n=3))]))
        assert store.read(cluster, POD, "cpu_mc", "1h", T0, T0 + 60).total == [7]
        assert store.last_one(cluster, POD).values[0] == 7
        store.write(cluster, STREAM, Batch(rows=[row(POD, T0, cpu_mc=cell(8, n=4))]))
        assert store.read(cluster, POD, "cpu_mc", "1h", T0, T0 + 60).total == [8]

    def test_a_bucket_outlives_its_expired_minutes_even_when_late_data_comes(self, store, cluster):
        rows = [row(POD, T0 + 60 * m, cpu_mc=5) for m in range(10)]
        store.write(cluster, STREAM, Batch(rows=rows))
        assert store.expire(cluster, "pod", "1m", T0 + 540) == 9
        store.write(cluster, STREAM, Batch(rows=[row(POD, T0 + 60, cpu_mc=9)]))
        assert store.read(cluster, POD, "cpu_mc", "10m", T0, T0 + 60).n == [10]
        assert store.read(cluster, POD, "cpu_mc", "1h", T0, T0 + 60).total == [50]

    def test_the_cluster_is_made_from_all_nodes_of_the_minute(self, store, cluster):
        second = SeriesKey("node", "", "n2")
        store.write(cluster, STREAM, Batch(rows=[row(NODE, T0, cpu_mc=100, uptime_s=9, ready=1)]))
        store.write(cluster, STREAM, Batch(rows=[row(second, T0, cpu_mc=50, uptime_s=4, ready=0)]))
        values = dict(
            zip(FIELD_NAMES["cluster"], store.last_one(cluster, CLUSTER).values, strict=True)
        )
        assert values["cpu_mc"] == 150
        assert values["uptime_s"] == 4
        assert (values["nodes_ready"], values["nodes_total"]) == (1, 2)
        assert values["mem_ws"] is None

    def test_values_that_do_not_fit_are_refused_alone_and_counted(self, store, cluster):
        bad = row(
            POD, T0, cpu_mc=2**63, mem_ws=5, mem_rss=Cell(0, 0, 0, 0), fs_used=Cell(1, 5, 6, 7)
        )
        result = store.write(cluster, STREAM, Batch(rows=[bad]))
        assert (result.refused_cells, result.skipped_rows) == (3, 0)
        assert store.last_one(cluster, POD).values == (None, 5, None, None, None, None, None)

    def test_the_largest_values_of_an_hour_add_up(self, store, cluster):
        rows = [row(NODE, T0 + 60 * m, mem_ws=rollups.LARGEST) for m in range(60)]
        store.write(cluster, STREAM, Batch(rows=rows))
        columns = store.read(cluster, NODE, "mem_ws", "1h", T0, T0 + 3600)
        assert columns.total == [60 * rollups.LARGEST]

    def test_last_comes_in_the_order_in_which_series_were_first_seen(self, store, cluster):
        keys = [POD._replace(name=f"p{at * 7 % 20}") for at in range(20)]
        store.write(cluster, STREAM, Batch(rows=[row(key, T0, cpu_mc=1) for key in keys]))
        assert [found.key for found in store.last(cluster, "pod")] == keys

    def test_last_keeps_the_newest_minute_though_older_ones_come_later(self, store, cluster):
        info = SeriesInfo(POD, "n2", {"phase": "Running"})
        old = SeriesInfo(POD, "n1", {"phase": "Pending"})
        store.write(cluster, STREAM, Batch([row(POD, T0 + 600, cpu_mc=2)], [info]))
        store.write(cluster, STREAM, Batch([row(POD, T0, cpu_mc=1)], [old]))
        last = store.last_one(cluster, POD)
        assert (last.ts, last.values[0], last.node) == (T0 + 600, 2, "n2")
        assert last.attrs == {"phase": "Running"}
        assert store.first_seen(cluster, POD) == T0
        assert store.last(cluster, "pod") == [last]
        assert store.last(cluster, "pod", since=T0 + 660) == []

    def test_an_unknown_series_is_empty_everywhere(self, store, cluster):
        assert store.read(cluster, POD, "cpu_mc", "1m", T0, T0 + 60).t == []
        assert store.read_many(cluster, "pod", "cpu_mc", "1m", T0, T0 + 60) == {}
        assert store.last_one(cluster, POD) is None
        assert store.first_seen(cluster, POD) is None
        assert store.position(cluster, STREAM) == Position(None, None)
        assert store.windows(cluster, STREAM, 0, T0) == []
        assert store.expire(cluster, "pod", "1m", T0) == 0
        assert store.read_fields(cluster, POD, ["cpu_mc"], "1m", T0, T0 + 60)["cpu_mc"].t == []
        assert store.top([cluster], "pod", "cpu_mc", "1m", T0, T0 + 60, limit=5) == []
        assert store.counts(cluster, "pod", "1m", T0, T0 + 60) == (0, 0)
        assert list(store.scan(cluster, "pod", "1m", T0, T0 + 60)) == []
        assert store.series(cluster) == []

    def test_an_unknown_field_or_tier_is_an_error_not_a_query(self, store, cluster):
        for field, tier in (("cpu_mc, 1", "1m"), ("cpu_mc", "2m"), ("nodes_total", "1m")):
            with pytest.raises(StoreError, match="no pod field"):
                store.read(cluster, POD, field, tier, T0, T0 + 60)
            with pytest.raises(StoreError, match="no pod field"):
                store.read_fields(cluster, POD, [field], tier, T0, T0 + 60)
            with pytest.raises(StoreError, match="no pod field"):
                store.top([cluster], "pod", field, tier, T0, T0 + 60, limit=1)

    def test_a_malformed_batch_is_refused_whole(self, store, cluster):
        good = row(POD, T0, cpu_mc=1)
        for bad in (
            row(POD, T0 + 1, cpu_mc=1),
            row(CLUSTER, T0, cpu_mc=1),
            MinuteRow(T0, POD, (None,)),
        ):
            with pytest.raises(StoreError):
                store.write(cluster, STREAM, Batch(rows=[good, bad], watermark=T0))
        assert store.last_one(cluster, POD) is None
        assert store.position(cluster, STREAM) == Position(None, None)

    def test_positions_never_move_back(self, store, cluster):
        store.write(cluster, STREAM, Batch(watermark=T0, head=T0 + 60))
        store.write(cluster, STREAM, Batch(watermark=T0 - 60, head=T0))
        store.write(cluster, STREAM, Batch(head=T0 + 120))
        assert store.position(cluster, STREAM) == Position(T0, T0 + 120)
        assert store.position(cluster, "other") == Position(None, None)

    def test_ledger_lines_are_found_by_overlap_and_state(self, store, cluster):
        done, gap = window(T0, T0 + 600), window(T0 + 600, T0 + 1200, "gap", detail="no route")
        store.write(cluster, STREAM, Batch(windows=[done, gap]))
        assert store.windows(cluster, STREAM, T0 + 599, T0 + 601) == [done, gap]
        assert store.windows(cluster, STREAM, T0 + 600, T0 + 601) == [gap]
        assert store.windows(cluster, STREAM, 0, T0 + 9999, states=["gap", "lost"]) == [gap]
        filled = window(T0 + 600, T0 + 1200, "done", attempts=2, filled_at=T0 + 5000)
        store.write(cluster, STREAM, Batch(windows=[filled]))
        assert store.windows(cluster, STREAM, T0, T0 + 1200) == [done, filled]
        assert store.windows(cluster, STREAM, T0, T0 + 1200, states=["gap"]) == []

    def test_a_ledger_line_keeps_the_resolution_that_the_range_is_held_at(self, store, cluster):
        wide = window(T0, T0 + 600, resolution=300)
        store.write(cluster, STREAM, Batch(windows=[wide]))
        assert store.windows(cluster, STREAM, T0, T0 + 600) == [wide]
        fine = window(T0, T0 + 600)
        store.write(cluster, STREAM, Batch(windows=[fine]))
        assert store.windows(cluster, STREAM, T0, T0 + 600) == [fine]

    def test_the_ledger_of_years_is_told_in_runs(self, store, cluster):
        slots = [window(T0 + 600 * i, T0 + 600 * i + 600, got=10 - i % 2) for i in range(40)]
        slots[7] = window(T0 + 4200, T0 + 4800, "lost", reason="agent_stopped")
        slots[20] = window(T0 + 12_000, T0 + 12_600, reason="tunnel_down", filled_at=T0 + 99_999)
        del slots[30]
        store.write(cluster, STREAM, Batch(windows=slots))
        found = store.window_runs(cluster, STREAM, T0 - 3600, T0 + 90_000)
        assert [(run.start - T0, run.end - T0, run.state) for run in found][:4] == [
            (0, 4200, "done"), (4200, 4800, "lost"), (4800, 12_000, "done"),
            (12_000, 12_600, "done"),
        ]  # fmt: skip
        assert (found[0].got, found[0].expected) == (10 * 7 - 3, 70)
        assert found[1] == slots[7]
        assert found[3] == slots[20]
        # Where a line is missing nothing is added up over the hole.
        assert all(run.end <= T0 + 18_000 or run.start >= T0 + 18_600 for run in found[4:])
        for start, end in ((0, 24_000), (300, 23_000), (4500, 4700), (4200, 4800), (600, 1200)):
            some = store.window_runs(cluster, STREAM, T0 + start, T0 + end)
            lines = store.windows(cluster, STREAM, T0 + start, T0 + end)
            assert sum(run.got for run in some) == sum(line.got for line in lines)
            assert sum(run.expected for run in some) == sum(line.expected for line in lines)
            assert some[0].start == lines[0].start
            assert some[-1].end == lines[-1].end
        assert store.window_runs(cluster, STREAM, T0 - 600, T0) == []
        assert store.window_runs(uuid4(), STREAM, T0, T0 + 600) == []

    def test_clusters_do_not_see_each_other(self, store, cluster):
        other = uuid4()
        store.write(cluster, STREAM, Batch(rows=[row(NODE, T0, cpu_mc=1)], watermark=T0))
        store.write(other, STREAM, Batch(rows=[row(NODE, T0, cpu_mc=2)]))
        assert store.last_one(cluster, NODE).values[0] == 1
        assert store.read(other, CLUSTER, "cpu_mc", "10m", T0, T0 + 60).total == [2]
        assert store.position(other, STREAM) == Position(None, None)
        assert set(store.clusters()) == {cluster, other}
        store.erase(cluster)
        assert store.clusters() == [other]
        assert store.last_one(cluster, NODE) is None
        assert store.last_one(other, NODE).values[0] == 2

    def test_an_erased_cluster_starts_from_nothing(self, store, cluster):
        batch = Batch([row(POD, T0, cpu_mc=1)], windows=[window(T0, T0 + 60)], watermark=T0 + 60)
        store.write(cluster, STREAM, batch)
        store.erase(cluster)
        assert store.position(cluster, STREAM) == Position(None, None)
        store.write(cluster, STREAM, Batch(rows=[row(POD, T0 + 60, cpu_mc=2)]))
        assert store.first_seen(cluster, POD) == T0 + 60
        assert store.read(cluster, POD, "cpu_mc", "1h", T0, T0 + 60).total == [2]

    def test_expiry_deletes_one_kind_and_tier_of_one_cluster_oldest_first(self, store, cluster):
        other = uuid4()
        rows = [row(NODE, T0 + 60 * m, cpu_mc=m) for m in range(4)]
        for name in (cluster, other):
            store.write(name, STREAM, Batch(rows=rows))
        assert store.expire(cluster, "node", "1m", T0 + 180, limit=2) == 2
        assert store.expire(cluster, "node", "1m", T0 + 180, limit=100) == 1
        assert store.expire(cluster, "node", "1m", T0 + 180) == 0
        assert store.read(cluster, NODE, "cpu_mc", "1m", T0, T0 + 600).t == [T0 + 180]
        assert len(store.read(cluster, CLUSTER, "cpu_mc", "1m", T0, T0 + 600).t) == 4
        assert store.expire(cluster, "cluster", "1m", T0 + 120) == 2
        assert store.read(cluster, NODE, "cpu_mc", "10m", T0, T0 + 600).n == [4]
        assert len(store.read(other, NODE, "cpu_mc", "1m", T0, T0 + 600).t) == 4

    def test_series_of_a_kind_that_is_kept_for_less_are_forgotten_earlier(self, store, cluster):
        batch = Batch(
            rows=[row(POD, T0, cpu_mc=1), row(NODE, T0, cpu_mc=1)],
            windows=[window(T0, T0 + 60)],
        )
        store.write(cluster, STREAM, batch)
        assert store.forget(cluster, T0, {"pod": T0 + 60}) == 1
        assert store.first_seen(cluster, POD) is None
        assert store.first_seen(cluster, NODE) == T0
        assert len(store.windows(cluster, STREAM, 0, T0 + 999)) == 1

    def test_forgetting_drops_old_series_and_ledger_lines_only(self, store, cluster):
        fresh = SeriesKey("pod", "default", "web-2")
        store.write(
            cluster,
            STREAM,
            Batch(
                rows=[row(POD, T0, cpu_mc=1), row(fresh, T0 + 600, cpu_mc=1)],
                windows=[window(T0, T0 + 60), window(T0 + 600, T0 + 660)],
            ),
        )
        assert store.forget(cluster, T0 + 600) == 1
        assert [last.key for last in store.last(cluster, "pod")] == [fresh]
        assert [w.start for w in store.windows(cluster, STREAM, 0, T0 + 999)] == [T0 + 600]
        assert [entry.key for entry in store.series(cluster)] == [fresh]
        store.write(cluster, STREAM, Batch(rows=[row(POD, T0 + 660, cpu_mc=3)]))
        assert store.last_one(cluster, POD).values[0] == 3
        assert store.first_seen(cluster, POD) == T0 + 660

    def test_series_are_found_over_clusters_by_a_part_of_the_name(self, store, cluster):
        other, hidden = uuid4(), uuid4()
        for name in (cluster, other, hidden):
            store.write(name, STREAM, Batch(rows=[row(POD, T0, cpu_mc=1)]))
        upper = SeriesKey("pod", "default", "WEB-100%_x")
        store.write(other, STREAM, Batch(rows=[row(upper, T0 + 60, cpu_mc=1)]))
        found = store.find([cluster, other], "pod", "Web-1")
        assert [(c, last.key) for c, last in found] == [
            (other, upper),
            *sorted([(cluster, POD), (other, POD)], key=lambda f: f[0] != cluster),
        ]
        assert [last.key for _, last in store.find([other], "pod", "0%_")] == [upper]
        assert len(store.find([cluster, other], "pod", "default", limit=2)) == 2
        assert store.find([cluster], "pod", "web", since=T0 + 60) == []
        assert store.find([], "pod", "") == []

    def test_hostile_names_are_kept_as_they_are_or_skipped(self, store, cluster):
        nasty = [
            SeriesKey("pod", "a' OR 1=1 --", "<script>%s</script>"),
            SeriesKey("pod", "\x00\n", "\u202e💥"),
            SeriesKey("pod", "", ""),
        ]
        unusable = [SeriesKey("pod", "", "\ud800"), SeriesKey("pod", "x" * 100_000, "")]
        result = store.write(
            cluster, STREAM, Batch(rows=[row(key, T0, cpu_mc=1) for key in nasty + unusable])
        )
        assert result.skipped_rows == 2
        assert result.detail
        assert {last.key for last in store.last(cluster, "pod")} == set(nasty)

    def test_one_field_of_all_series_equals_each_series_alone(self, store, cluster):
        keys = [SeriesKey("pod", "ns", f"p{i}") for i in range(3)]
        rows = [
            row(key, T0 + 60 * m, cpu_mc=m * i)
            for i, key in enumerate(keys)
            for m in range(0, 90, i + 1)
        ]
        store.write(cluster, STREAM, Batch(rows=rows))
        for tier in TIERS:
            found = store.read_many(cluster, "pod", "cpu_mc", tier, T0, T0 + 5400)
            assert found == {
                key: store.read(cluster, key, "cpu_mc", tier, T0, T0 + 5400) for key in keys
            }

    def test_a_range_is_half_open_and_may_be_unaligned(self, store, cluster):
        rows = [row(POD, T0 + 60 * m, cpu_mc=m) for m in range(5)]
        store.write(cluster, STREAM, Batch(rows=rows))
        read = store.read(cluster, POD, "cpu_mc", "1m", T0 + 1, T0 + 181)
        assert read.t == [T0 + 60, T0 + 120, T0 + 180]
        assert store.read(cluster, POD, "cpu_mc", "1m", T0 + 1, T0 + 59).t == []
        assert store.read(cluster, POD, "cpu_mc", "1m", T0, T0).t == []
        assert store.read_many(cluster, "pod", "cpu_mc", "1m", T0 + 1, T0 + 59) == {}

    def test_coarse_rows_enter_their_tier_and_the_hour_without_inventing_extremes(
        self, store, cluster
    ):
        rows = [
            coarse(POD, "10m", T0 + 600 * at, cpu_mc=Cell(10, 100 * at, None, 9 * at + 10))
            for at in range(3)
        ]
        rows.append(coarse(POD, "10m", T0 + 1800, cpu_mc=Cell(5, 50, 7, None)))
        result = store.write(cluster, STREAM, Batch(coarse=rows))
        assert (result.refused_cells, result.skipped_rows) == (0, 0)
        assert store.read(cluster, POD, "cpu_mc", "1m", T0, T0 + 3600).t == []
        assert store.read(cluster, POD, "cpu_mc", "10m", T0, T0 + 3600) == Columns(
            [T0, T0 + 600, T0 + 1200, T0 + 1800],
            [10, 10, 10, 5],
            [0, 100, 200, 50],
            [None, None, None, 7],
            [10, 19, 28, None],
        )
        assert store.read(cluster, POD, "cpu_mc", "1h", T0, T0 + 3600) == Columns(
            [T0], [35], [350], [None], [None]
        )

    def test_a_bucket_over_fewer_minutes_never_replaces_one_over_more(self, store, cluster):
        minutes = [row(POD, T0 + 60 * m, cpu_mc=5) for m in range(7)]
        store.write(cluster, STREAM, Batch(rows=minutes))
        less = coarse(POD, "10m", T0, cpu_mc=Cell(5, 500, None, None))
        store.write(cluster, STREAM, Batch(coarse=[less]))
        assert store.read(cluster, POD, "cpu_mc", "10m", T0, T0 + 600).total == [35]
        more = coarse(POD, "10m", T0, cpu_mc=Cell(10, 100, None, None))
        store.write(cluster, STREAM, Batch(coarse=[more]))
        hour = coarse(POD, "1h", T0, cpu_mc=Cell(60, 6000, 1, 200))
        store.write(cluster, STREAM, Batch(coarse=[hour]))
        store.write(cluster, STREAM, Batch(rows=[row(POD, T0 + 420, cpu_mc=5)]))
        assert store.read(cluster, POD, "cpu_mc", "10m", T0, T0 + 600) == Columns(
            [T0], [10], [100], [None], [None]
        )
        assert store.read(cluster, POD, "cpu_mc", "1h", T0, T0 + 600).n == [60]
        assert store.read(cluster, POD, "cpu_mc", "1m", T0, T0 + 600).n == [1] * 8

    @pytest.mark.parametrize("tier", ["10m", "1h"])
    def test_a_field_that_a_coarse_row_lacks_stays_as_its_minutes_made_it(
        self, store, cluster, tier
    ):
        minutes = [row(NODE, T0 + 60 * m, cpu_mc=5, mem_ws=7) for m in range(6)]
        store.write(cluster, STREAM, Batch(rows=minutes))
        n = TIERS[tier] // 60
        rough = coarse(NODE, tier, T0, cpu_mc=Cell(n, 9 * n, None, 20))
        store.write(cluster, STREAM, Batch(coarse=[rough]))
        for key in (NODE, CLUSTER):
            of_memory = store.read(cluster, key, "mem_ws", tier, T0, T0 + 3600)
            assert (of_memory.n, of_memory.total) == ([6], [42]), key
            assert store.read(cluster, key, "cpu_mc", tier, T0, T0 + 3600).total == [9 * n], key
        store.write(cluster, STREAM, Batch(coarse=[rough]))
        assert store.read(cluster, NODE, "mem_ws", tier, T0, T0 + 3600).total == [42]

    def test_minutes_that_come_after_coarse_rows_replace_them_once_they_are_as_many(
        self, store, cluster
    ):
        rough = coarse(POD, "10m", T0, cpu_mc=Cell(5, 500, None, None))
        store.write(cluster, STREAM, Batch(coarse=[rough]))
        store.write(cluster, STREAM, Batch([row(POD, T0 + 60 * m, cpu_mc=1) for m in range(4)]))
        assert store.read(cluster, POD, "cpu_mc", "10m", T0, T0 + 600).total == [500]
        store.write(cluster, STREAM, Batch([row(POD, T0 + 240, cpu_mc=6)]))
        for tier in ("10m", "1h"):
            assert store.read(cluster, POD, "cpu_mc", tier, T0, T0 + 600) == Columns(
                [T0], [5], [10], [1], [6]
            )

    def test_the_cluster_has_coarse_rows_of_its_nodes(self, store, cluster):
        second = SeriesKey("node", "", "n2")
        rows = [
            coarse(NODE, "10m", T0, cpu_mc=Cell(10, 100, 5, 20), uptime_s=Cell(10, 90, 9, 9)),
            coarse(second, "10m", T0, cpu_mc=Cell(5, 50, 5, 20), uptime_s=Cell(10, 40, 4, 4)),
        ]
        store.write(cluster, STREAM, Batch(coarse=rows[:1]))
        store.write(cluster, STREAM, Batch(coarse=rows[1:]))
        found = store.read_fields(
            cluster, CLUSTER, ["cpu_mc", "uptime_s", "nodes_total"], "1h", T0, T0 + 3600
        )
        assert found == {
            "cpu_mc": Columns([T0], [10], [150], [None], [None]),
            "uptime_s": Columns([T0], [10], [40], [4], [4]),
            "nodes_total": Columns([T0], [10], [20], [None], [None]),
        }

    def test_coarse_rows_that_are_malformed_or_absurd_are_refused(self, store, cluster):
        for bad in (
            coarse(POD, "1m", T0, cpu_mc=1),
            coarse(POD, "1h", T0 + 600, cpu_mc=1),
            coarse(CLUSTER, "10m", T0, cpu_mc=1),
            CoarseRow("10m", T0, POD, (None,)),
        ):
            with pytest.raises(StoreError):
                store.write(cluster, STREAM, Batch(coarse=[bad], watermark=T0))
        assert store.position(cluster, STREAM) == Position(None, None)
        absurd = coarse(
            POD,
            "10m",
            T0,
            cpu_mc=Cell(11, 1, 0, 1),
            mem_ws=Cell(10, 2**62, None, None),
            mem_rss=Cell(2, 30, 1, 10),
            fs_used=Cell(10, 55, None, None),
        )
        assert store.write(cluster, STREAM, Batch(coarse=[absurd])).refused_cells == 3
        assert store.read(cluster, POD, "fs_used", "10m", T0, T0 + 600).total == [55]
        assert store.read(cluster, POD, "cpu_mc", "10m", T0, T0 + 600).t == []

    def test_a_series_known_from_coarse_rows_alone_is_listed_without_values(self, store, cluster):
        rows = [coarse(POD, "10m", T0 + 600 * at, cpu_mc=Cell(10, 9, 0, 9)) for at in (1, 0)]
        info = SeriesInfo(POD, "n1", {"phase": "Running"})
        store.write(cluster, STREAM, Batch(coarse=rows, infos=[info]))
        (last,) = store.last(cluster, "pod")
        assert (last.key, last.ts, last.node) == (POD, T0 + 600, "n1")
        assert set(last.values) == {None}
        assert store.first_seen(cluster, POD) == T0
        store.write(cluster, STREAM, Batch(rows=[row(POD, T0 + 600, cpu_mc=4)]))
        store.write(cluster, STREAM, Batch(coarse=[coarse(POD, "10m", T0 + 1200, cpu_mc=1)]))
        assert store.last_one(cluster, POD).values[0] == 4
        assert store.forget(cluster, T0 + 6000) == 1

    def test_several_fields_are_read_as_each_alone(self, store, cluster):
        rows = [
            row(POD, T0 + 60 * m, cpu_mc=m, mem_ws=None if m % 3 else m, restarts=1)
            for m in range(0, 100, 2)
        ]
        store.write(cluster, STREAM, Batch(rows=rows))
        fields = ["mem_ws", "cpu_mc", "fs_used", "restarts"]
        for tier in TIERS:
            span = (tier, T0 + 120, T0 + 5000)
            assert store.read_fields(cluster, POD, fields, *span) == {
                field: store.read(cluster, POD, field, *span) for field in fields
            }

    def test_the_largest_are_found_over_clusters_by_mean_or_highest(self, store, cluster):
        other, hidden = uuid4(), uuid4()
        keys = [SeriesKey("pod", "ns", f"p{at}") for at in range(4)]
        for at, name in enumerate((cluster, other, hidden)):
            rows = [
                row(key, T0 + 60 * m, cpu_mc=Cell(2, 2 * value, value - 5, value + 100 // value))
                for value, key in enumerate(keys, start=10 + 10 * at)
                for m in range(0, 20, 1 + value % 2)
            ]
            store.write(name, STREAM, Batch(rows=rows))
        span = ("1m", T0, T0 + 600)
        found = store.top([cluster, other], "pod", "cpu_mc", *span, limit=3)
        assert [(entry.cluster, entry.key) for entry in found] == [
            (other, keys[3]), (other, keys[2]), (other, keys[1])
        ]  # fmt: skip
        assert found[0] == TopRow(other, keys[3], 5, 5 * 23, 27)
        found = store.top([cluster], "pod", "cpu_mc", "10m", T0, T0 + 600, limit=9, by="max")
        assert [(entry.key, entry.high) for entry in found] == [
            (keys[0], 20), (keys[1], 20), (keys[2], 20), (keys[3], 20)
        ]  # fmt: skip
        assert store.top([cluster], "pod", "mem_ws", *span, limit=3) == []
        assert store.top([], "pod", "cpu_mc", *span, limit=3) == []
        assert store.top([cluster], "pod", "cpu_mc", *span, limit=0) == []

    def test_unknown_highest_values_do_not_rank_by_them(self, store, cluster):
        unknown = SeriesKey("pod", "ns", "p")
        rows = [
            coarse(POD, "10m", T0, cpu_mc=Cell(10, 10, 0, 3)),
            coarse(POD, "10m", T0 + 600, cpu_mc=Cell(10, 10, 0, None)),
            coarse(unknown, "10m", T0, cpu_mc=Cell(10, 90, None, None)),
        ]
        store.write(cluster, STREAM, Batch(coarse=rows))
        span = ("pod", "cpu_mc", "10m", T0, T0 + 1200)
        assert store.top([cluster], *span, limit=5) == [
            TopRow(cluster, unknown, 10, 90, None), TopRow(cluster, POD, 20, 20, 3)
        ]  # fmt: skip
        assert [top.key for top in store.top([cluster], *span, limit=5, by="max")] == [POD]

    def test_a_copy_holds_the_same_rows_series_and_last_values(self, store, cluster):
        rows = [
            row(key, T0 + 60 * m, cpu_mc=Cell(3, 3 * m, m - 1, m + at))
            for at, key in enumerate((NODE, POD, SeriesKey("pod", "a", "b")), start=1)
            for m in range(0, 70, at)
        ]
        info = SeriesInfo(POD, "n1", {"phase": "Running"})
        rough = coarse(POD, "1h", T0 + 7200, cpu_mc=Cell(60, 60, None, 2))
        store.write(cluster, STREAM, Batch(rows=rows, infos=[info], coarse=[rough]))
        copy = uuid4()
        store.put_series(copy, store.series(cluster))
        for kind in FIELD_NAMES:
            for tier in TIERS:
                scanned = list(store.scan(cluster, kind, tier, T0, T0 + 86_400))
                assert scanned == sorted(scanned, key=lambda stored: stored[:2])
                assert store.load(copy, kind, tier, scanned) == len(scanned)
                assert store.load(copy, kind, tier, scanned) == len(scanned)
                found = store.counts(copy, kind, tier, T0, T0 + 86_400)
                assert found == store.counts(cluster, kind, tier, T0, T0 + 86_400)
                assert found == (len(scanned), checksum.add(scanned))
            store.put_last(copy, store.last(cluster, kind))
            assert sorted(store.last(copy, kind), key=lambda last: last.key) == sorted(
                store.last(cluster, kind), key=lambda last: last.key
            )
        assert store.series(copy) == store.series(cluster)
        for entry in store.series(cluster):
            for tier in TIERS:
                span = (entry.key, "cpu_mc", tier, T0, T0 + 86_400)
                assert store.read(copy, *span) == store.read(cluster, *span)

    def test_counting_takes_a_half_open_range_and_notices_any_change(self, store, cluster):
        store.write(cluster, STREAM, Batch([row(POD, T0 + 60 * m, cpu_mc=m) for m in range(5)]))
        assert store.counts(cluster, "pod", "1m", T0 + 1, T0 + 180)[0] == 2
        before = store.counts(cluster, "pod", "1m", T0, T0 + 300)
        other = [StoredRow(T0, POD, 1, row(POD, T0, cpu_mc=9).cells)]
        store.load(cluster, "pod", "1m", other)
        after = store.counts(cluster, "pod", "1m", T0, T0 + 300)
        assert (after[0], after[1] != before[1]) == (5, True)
        worse = [StoredRow(T0, POD, 0, row(POD, T0, cpu_mc=1).cells)]
        store.load(cluster, "pod", "1m", worse)
        assert store.counts(cluster, "pod", "1m", T0, T0 + 300) == after

    def test_loading_makes_no_rollups_and_what_is_newer_stays(self, store, cluster):
        store.write(cluster, STREAM, Batch(rows=[row(POD, T0 + 60, cpu_mc=2)]))
        stored = [StoredRow(T0, POD, 1, row(POD, T0, cpu_mc=1).cells)]
        store.load(cluster, "pod", "1m", stored)
        assert store.read(cluster, POD, "cpu_mc", "10m", T0, T0 + 600).n == [1]
        old = LastRow(POD, T0, "elsewhere", {}, (1, *[None] * 6))
        store.put_last(cluster, [old])
        assert store.last_one(cluster, POD).values[0] == 2
        new = LastRow(POD, T0 + 120, "n2", {"phase": "Failed"}, (3, *[None] * 6))
        store.put_last(cluster, [new])
        assert store.last_one(cluster, POD) == new

    def test_maintenance_says_what_it_did_and_changes_no_answer(self, store, cluster):
        rows = [row(key, T0 + 60 * m, cpu_mc=m) for m in range(200) for key in (NODE, POD)]
        store.write(cluster, STREAM, Batch(rows=rows))
        before = self.everything(store, cluster)
        assert "\n" not in store.maintain(T0 + 86_400)
        assert store.maintain(T0 + 86_400)
        assert self.everything(store, cluster) == before

    def test_check_says_ok(self, store, cluster):
        store.write(cluster, STREAM, Batch(rows=[row(POD, T0, cpu_mc=1)]))
        assert store.check() == "ok"

    @settings(
        max_examples=examples(20),
        deadline=None,
        # Run by several classes in one process, each with a store of its own making.
        suppress_health_check=[
            HealthCheck.function_scoped_fixture,
            HealthCheck.too_slow,
            HealthCheck.differing_executors,
        ],
    )
    @given(batches=BATCHES)
    def test_any_batches_in_any_order_read_like_the_model(self, store, batches):
        cluster, model = uuid4(), Model()
        for batch in batches:
            store.write(cluster, STREAM, batch)
            model.write(batch)
        for key in (*KEYS, CLUSTER):
            for field in FIELD_NAMES[key.kind]:
                for tier in TIERS:
                    assert store.read(cluster, key, field, tier, T0, T0 + 7200) == model.read(
                        key, field, tier, T0, T0 + 7200
                    ), (key, field, tier)
        store.erase(cluster)

    def test_the_proof_of_a_write_leaves_no_trace_in_any_answer(self, store):
        cluster = uuid4()
        store.prove_writable(T0, seconds=5)
        store.write(cluster, STREAM, Batch(rows=[row(NODE, T0, cpu_mc=1)]))
        before = self.everything(store, cluster), list(store.clusters())
        store.prove_writable(T0 + 15, seconds=5)
        store.prove_writable(T0 + 30, seconds=5)
        assert (self.everything(store, cluster), list(store.clusters())) == before

    def everything(self, store: MetricStore, cluster: UUID) -> list[object]:
        """Return all that the store says of the cluster's first hours."""
        found: list[object] = [store.position(cluster, STREAM)]
        found.append(store.windows(cluster, STREAM, 0, T0 + 99_999))
        for kind, names in FIELD_NAMES.items():
            found.append(store.last(cluster, kind))
            for field in names:
                found.extend(
                    store.read_many(cluster, kind, field, tier, T0 - 3600, T0 + 86_400)
                    for tier in TIERS
                )
        return found
