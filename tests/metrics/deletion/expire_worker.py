"""An expiry for tests that kill it: ``python -m tests.metrics.deletion.expire_worker NOW STEPS``.

It kills itself with SIGKILL at the ``STEPS``-th step, where each call of the store is two: before
and after; 0 lets it end. Each call deletes a few rows only.
"""

from __future__ import annotations

import os
import signal
import sys

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "opscenter.settings")


def main(now: int, steps: int) -> None:
    django.setup()
    from metrics.deletion import expiry
    from metrics.stores.sqlite.store import SqliteStore

    expiry.CHUNK = 7
    expire, left = SqliteStore.expire, steps

    def step() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def watched(self, *args, **options):
        step()
        count = expire(self, *args, **options)
        if count:
            step()
        return count

    SqliteStore.expire = watched
    print(expiry.expire_due(now).total)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
