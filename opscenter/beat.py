"""Beat's scheduler: Celery's own, which a clock that goes back does not keep waiting.

Celery waits until the clock has come back to where it was, and remembers that over restarts: a
machine that boots with a wrong clock would pull nothing for as long as it was wrong by.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

from celery.beat import PersistentScheduler

logger = logging.getLogger(__name__)

_SAME = timedelta(seconds=1)  # what a clock that is being set right by little steps may go back


class Scheduler(PersistentScheduler):
    """Sends everything at once that seems to have been sent in the future."""

    def tick(self, *args: Any, **options: Any) -> float:
        """Run what is due; return for how many seconds to sleep."""
        entries = self.schedule.values()
        ahead = [e for e in entries if e.last_run_at and e.last_run_at > e.default_now() + _SAME]
        if ahead:
            logger.warning("the clock went back: %d entries of the schedule begin anew", len(ahead))
            for entry in ahead:
                entry.last_run_at = entry.default_now() - timedelta(days=1)
            self._heap = None  # it is in the order of times that are not true any more
        return float(super().tick(*args, **options))
