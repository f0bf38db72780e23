"""A cluster of :mod:`tests.bench.workload` that answers as our agent does, in this process.

The cost of making an answer is counted separately, because in real life the cluster pays it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

import orjson

from clusters.models import Cluster as ClusterRow
from metrics.series.catalog import FIELD_NAMES
from metrics.sources.base import JsonClient
from opscenter.core.errors import ClusterUnreachableError
from tests.bench.workload import Cluster

MAX_ROWS = 20_000  # of one answer, as the agent's


class AnsweringCluster:
    """A client that needs no network.

    Attributes:
        now: the clock of cluster and centre, Unix seconds.
        cut: whether the tunnel is down.
        spent_seconds: seconds that making answers took.
        bodies: bytes of JSON that were requested.
    """

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.now = float(cluster.start)
        self.cut = False
        self.spent_seconds = 0.0
        self.bodies = 0

    def connect(self, _: ClusterRow) -> AbstractAsyncContextManager[JsonClient]:
        """Connect to it, as :data:`metrics.pulling.pull.Connect`."""
        return self._opened()

    @contextlib.asynccontextmanager
    async def _opened(self) -> AsyncIterator[JsonClient]:
        if self.cut:
            msg = "the tunnel is down: cut by the benchmark"
            raise ClusterUnreachableError(msg)
        yield self

    async def get_json(
        self,
        path: str,
        params: Mapping[str, str] | None = None,
        *,
        before_parsing: Callable[[], object] = lambda: None,
    ) -> Any:
        """Answer ``/v1/range``."""
        del path
        begin = time.perf_counter()
        asked = params or {}
        body = self.body(int(asked["start"]), int(asked["end"]))
        self.spent_seconds += time.perf_counter() - begin
        self.bodies += len(body)
        before_parsing()
        return orjson.loads(body)

    def body(self, start: int, end: int) -> bytes:
        """Return an answer's JSON."""
        cluster = self.cluster
        newest_end = min(int(self.now) // 60 * 60, cluster.start + 60 * cluster.minutes)
        per_answer = max(1, MAX_ROWS // len(cluster.series)) * 60
        covered = max(start, min(end, newest_end, start + per_answer))
        first = (max(start, cluster.start) - cluster.start) // 60
        last = max(first, (covered - cluster.start) // 60)
        return orjson.dumps(
            {
                "agent": {"version": "0.1.0", "instance": "0" * 16, "kind": "kubernetes",
                          "hostname": cluster.name},
                "now": self.now, "oldest": cluster.start, "newest_end": newest_end,
                "start": start, "end": covered,
                "kinds": {kind: self._table(kind, first, last) for kind in ("node", "pod")},
            }
        )  # fmt: skip

    def _table(self, kind: str, first: int, last: int) -> dict[str, Any]:
        """Return one kind's columns: minute after minute, in each every series."""
        series = [one for one in self.cluster.series if one.key.kind == kind]
        minutes = range(first, last)
        fields = {}
        for at, name in enumerate(FIELD_NAMES[kind]):  # type: ignore[index]
            columns = [one.columns[at] for one in series]
            if columns and columns[0] is not None:
                parts = [column[first:last] for column in columns if column is not None]
                flat = [value for row in zip(*parts, strict=True) for value in row]
                fields[name] = {"n": [1] * len(flat), "s": flat, "l": flat, "h": flat}
        return {
            "series": [
                {"ns": one.key.ns, "name": one.key.name, "node": one.node, "attrs": {}}
                for one in series
            ],
            "t": [self.cluster.start + 60 * at for at in minutes for _ in series],
            "i": list(range(len(series))) * len(minutes),
            "fields": fields,
        }
