"""Write rows, ledger windows and the watermark of a stream at once."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from metrics.pulling import ledger_rules
from metrics.pulling.stream import Stream
from metrics.series.source_answer import SourceAnswer
from metrics.series.windows import BUCKET, DAY, Window
from metrics.stores.writer import Batch

logger = logging.getLogger(__name__)

MAX_DETAIL = 300


def write(
    stream: Stream,
    answer: SourceAnswer,
    put: Sequence[Window],
    watermark: int | None,
    head: int | None,
) -> int | None:
    """Write an answer and its windows at once; return the new watermark."""
    if watermark is not None:
        known = stream.position().head or 0 if head is None else head
        newest = max(answer.end, watermark, known, *(window.end for window in put))
        watermark = advanced(stream, put, watermark, newest)
    batch = Batch(
        rows=answer.rows, infos=answer.infos, windows=bounded(put), watermark=watermark,
        head=head, coarse=answer.coarse,
    )  # fmt: skip
    result = stream.store.write(stream.cluster, stream.name, batch)
    if result.detail:
        logger.warning("cluster %s: not everything was stored: %s", stream.cluster, result.detail)
    return watermark


def advanced(stream: Stream, put: Sequence[Window], watermark: int, end: int) -> int:
    """Return the watermark after the ledger's windows and those about to be written."""
    known = {window.start: window for window in put}
    while watermark < end + BUCKET:
        # A day at a time, so as not to read a year's windows to find the next gap.
        until = watermark + DAY
        windows = {window.start: window for window in stream.windows(watermark, until)}
        windows.update((start, window) for start, window in known.items() if start < until)
        reached = ledger_rules.advance(windows.values(), watermark)
        if reached == watermark or reached < until:
            return reached
        watermark = reached
    return watermark


def bounded(windows: Sequence[Window]) -> list[Window]:
    """Return the windows with details of at most :data:`MAX_DETAIL` characters."""
    return [replace(window, detail=window.detail[:MAX_DETAIL]) for window in windows]
