"""A worker for tests that kill it: pulls one cluster minute by minute of an invented clock.

``python -m tests.metrics.pulling.pull_worker CLUSTER FIRST_MINUTE_END LAST_MINUTE_END``; it goes on
after the last minute that it finds in the store and prints a line for each pull.
"""

from __future__ import annotations

import os
import sys
from uuid import UUID

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "opscenter.settings")


def main(cluster_id: UUID, first: int, last: int) -> None:
    django.setup()
    from metrics.pulling.backfill import backfill_cluster
    from metrics.pulling.pull import pull_cluster
    from metrics.series.windows import STREAM
    from metrics.stores import get_store

    head = get_store().position(cluster_id, STREAM).head
    for end in range(first if head is None else head + 60, last + 1, 60):
        result = pull_cluster(cluster_id, end + 6.0)
        print(end, result.outcome, result.code, flush=True)
        if result.gaps_open:
            backfill_cluster(cluster_id, end + 7.0)


if __name__ == "__main__":
    main(UUID(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
