"""A worker for tests that kill it: pulls ten minutes at a time and seals hours, on its own clock.

``python -m tests.metrics.stores.sqlite.sealing_worker CLUSTER START END``; it goes on after what it
finds in the store, and says before each step what it is about to do.
"""

from __future__ import annotations

import os
import sys
from uuid import UUID

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "opscenter.settings")
STEP = 600
SETTLED_SECONDS = 50  # what the source waits for, and a little


def main(cluster_id: UUID, start: int, end: int) -> None:
    django.setup()
    from metrics.pulling.backfill import backfill_cluster
    from metrics.pulling.pull import pull_cluster
    from metrics.series.windows import STREAM
    from metrics.stores import get_store

    store = get_store()
    head = store.position(cluster_id, STREAM).head or start
    for until in range(head + STEP, end + 1, STEP):
        print("pull", until, flush=True)
        result = pull_cluster(cluster_id, until + SETTLED_SECONDS)
        if result.outcome != "ok":
            sys.exit(f"{result}")
        if result.gaps_open:
            backfill_cluster(cluster_id, until + SETTLED_SECONDS)
        print("seal", until, flush=True)
        store.maintain(until)
    print("done", flush=True)


if __name__ == "__main__":
    main(UUID(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
