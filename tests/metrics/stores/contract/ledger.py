"""Positions and the ledger."""

from __future__ import annotations

from uuid import uuid4

from metrics.series.windows import Position
from metrics.stores.writer import Batch
from tests.metrics.stores.contract.rows import (
    STREAM,
    T0,
    window,
)


class LedgerContract:
    """A part of :class:`~tests.metrics.stores.contract.StoreContract`."""

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
