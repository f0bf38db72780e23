"""The spool for coroutines: one thread does all the work on the file, one call at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from agent.clock import Stretch
from agent.samples import Sample
from agent.spool.database import SpoolError
from agent.spool.file import SpoolFile, SpoolState

__all__ = ["Spool", "SpoolError", "SpoolFile", "SpoolState"]

T = TypeVar("T")


class Spool:
    """The spool for coroutines: its own thread does all the work, one call at a time."""

    def __init__(self, file: SpoolFile, executor: ThreadPoolExecutor) -> None:
        self._file = file
        self._executor = executor

    @classmethod
    async def open(cls, path: Path, *, max_bytes: int = 512 * 2**20, max_days: float = 7) -> Spool:
        """Open the file, or create it.

        Raises:
            SpoolError: if that cannot be done.
        """
        executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spool")
        loop = asyncio.get_running_loop()
        try:
            file = await loop.run_in_executor(
                executor,
                lambda: SpoolFile(path, max_bytes=max_bytes, max_seconds=int(max_days * 86400)),
            )
        except BaseException:
            executor.shutdown(wait=False)
            raise
        return cls(file, executor)

    async def call(self, action: Callable[[SpoolFile], T]) -> T:
        """Run ``action`` in the spool's thread and return its result."""
        return await asyncio.get_running_loop().run_in_executor(
            self._executor, lambda: action(self._file)
        )

    async def add(
        self,
        at: float,
        samples: Sequence[Sample],
        *,
        stretch: Stretch | None = None,
        interval: int = 0,
        error: str = "",
    ) -> None:
        """Fold one reading into its minute and commit; see :meth:`SpoolFile.add`."""
        await self.call(
            lambda file: file.add(at, samples, stretch=stretch, interval=interval, error=error)
        )

    async def state(self, now: float) -> SpoolState:
        """Return what the spool holds as of ``now``."""
        return await self.call(lambda file: file.state(now))

    async def close(self) -> None:
        """Write what is pending and close the file."""
        await self.call(lambda file: file.close())
        self._executor.shutdown(wait=True)
