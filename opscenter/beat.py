"""Beat's scheduler: Celery's own, which does not wait after the clock went back.

Celery waits until the clock is again where it was, and remembers that over restarts: a machine that
boots with its clock ahead would pull nothing until the true time has caught up.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

from celery.beat import PersistentScheduler

logger = logging.getLogger(__name__)

_SAME = timedelta(seconds=1)  # how far a clock that is corrected in small steps may go back


class Scheduler(PersistentScheduler):
    """Sends everything at once that seems to have been sent in the future."""

    def tick(self, *args: Any, **options: Any) -> float:
        """Run what is due; return how many seconds to sleep."""
        entries = self.schedule.values()
        ahead = [e for e in entries if e.last_run_at and e.last_run_at > e.default_now() + _SAME]
        if ahead:
            logger.warning("the clock went back: %d entries of the schedule begin anew", len(ahead))
            for entry in ahead:
                entry.last_run_at = entry.default_now() - timedelta(days=1)
            self._heap = None  # it is ordered by times that are no longer true
        return float(super().tick(*args, **options))
