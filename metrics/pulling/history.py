"""Correct the history of a cluster's state and findings by the minutes that filled a gap."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from django.conf import settings

from clusters.history_corrections import correct_history, keys_within
from clusters.history_rules import Evidence
from clusters.models import Cluster
from metrics.pulling.gap_evidence import evidence_of
from metrics.series.rows import SeriesKey
from metrics.series.source_answer import SourceAnswer
from metrics.series.windows import MINUTE, utc_datetime
from metrics.stores.reader import MetricReader
from opscenter.core.ages import skew_seconds

MAX_LOOKUPS = 20
"""How many nodes are looked up beside one answer; of others a border stays "or earlier"."""


def correct_by_gap(cluster: Cluster, store: MetricReader, answer: SourceAnswer, now: float) -> int:
    """Correct the history by an answer that is stored; return how many rows were changed or added.

    Args:
        cluster: the cluster; with its status, which knows how far its clock is off.
        store: holds the minutes, those of the answer too.
        answer: what the source had.
        now: our clock in Unix seconds.
    """
    if not answer.rows:
        return 0
    skew = skew_seconds(cluster.current.clock_skew_ms)
    ahead = timedelta(seconds=skew)
    start, end = utc_datetime(answer.start) - ahead, utc_datetime(answer.end) - ahead
    keys = keys_within(cluster.pk, start, end)
    told = evidence_of(answer, keys, skew, all_filesystems=settings.JUDGE_ALL_FILESYSTEMS)
    told += _beside(cluster, store, answer, told, skew)
    return correct_history(cluster.pk, start, end, told, utc_datetime(now))


def _beside(
    cluster: Cluster,
    store: MetricReader,
    answer: SourceAnswer,
    told: Sequence[Evidence],
    skew: float,
) -> list[Evidence]:
    """Return which nodes were ready in the minute beside the answer, of those not ready in it."""
    found = []
    ahead = timedelta(seconds=skew)
    borders = {
        utc_datetime(answer.start) - ahead: answer.start - MINUTE,
        utc_datetime(answer.end) - ahead: answer.end,
    }
    asked = [
        (one.key, borders[moment])
        for one in told
        if one.level and one.key.startswith("node:")
        for moment in (one.start, one.end)
        if moment in borders
    ]
    for key, minute in asked[:MAX_LOOKUPS]:
        series = SeriesKey("node", "", key.removeprefix("node:"))
        ready = store.read(cluster.pk, series, "ready", "1m", minute, minute + MINUTE)
        if ready.t and 2 * ready.total[0] > ready.n[0]:
            at = utc_datetime(minute) - ahead
            found.append(Evidence(key, "", at, at + timedelta(seconds=MINUTE)))
    return found
