"""A worker process of the pull benchmark: the pulls of the worker's threads, without Celery.

``python -m tests.bench.pull_worker STORE``: waits for a time on standard input (Unix seconds),
pulls by tunnel what waits in the list :data:`WAITING` of Redis until that is empty, says so by a
line, and waits for the next time. Several of these share one list.
"""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import UUID

from django.test.utils import override_settings

from metrics.series.windows import floor_minute

WAITING = "bench:pulls"
SHARDS = 8  # four per process: two seldom want to write the same


def sharded_store(path: Path) -> override_settings:
    """Return the settings of a metric store at a path of its own, in shards for several writers."""
    path.parent.mkdir(exist_ok=True)
    return override_settings(METRICS_SQLITE_PATH=path, METRICS_SHARDS=SHARDS)


def main() -> None:
    """Serve until standard input ends."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "opscenter.settings")
    import django

    django.setup()
    from django.conf import settings
    from django.db import close_old_connections

    from metrics.pulling.pull import pull_cluster
    from opscenter.celery import collect_rarely
    from opscenter.core.heartbeats import redis_client

    sharded_store(Path(sys.argv[1])).enable()
    collect_rarely()

    def work(now: float) -> None:
        while (cluster_id := redis_client().lpop(WAITING)) is not None:
            assert isinstance(cluster_id, bytes)
            try:
                result = pull_cluster(UUID(cluster_id.decode()), now)
            finally:
                close_old_connections()
            if result.outcome != "ok" or result.end != floor_minute(now):
                msg = f"not pulled: {result}"
                raise RuntimeError(msg)

    with ThreadPoolExecutor(settings.WORKER_THREADS) as threads:
        print("ready", flush=True)
        for line in sys.stdin:
            list(threads.map(work, [float(line)] * settings.WORKER_THREADS))
            print("done", flush=True)


if __name__ == "__main__":
    main()
