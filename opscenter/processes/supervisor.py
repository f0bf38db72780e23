"""Keep the processes of Ops Center running: start, restart, watch, stop.

One task per process waits for what it needs, runs it, and runs it again with back-off. One task
checks the signs of life and kills what hangs; the first task then starts it again. All children are
in sessions of their own and die with this process, however it ends
(:mod:`opscenter.processes.child`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from django.db import close_old_connections
from kombu.exceptions import KombuError

from opscenter.celery import app
from opscenter.core.heartbeats import heartbeat_queue
from opscenter.core.json_lines import MARK_VARIABLE, PROCESS_VARIABLE
from opscenter.processes.child import Child, Command, describe_status
from opscenter.processes.definitions import (
    STOPS_LAST,
    Process,
    carrier_sign,
    node_name,
    signs_through,
)
from opscenter.processes.liveness import Liveness, Sign
from opscenter.processes.output import WriteLine

logger = logging.getLogger(__name__)

_FIRST_DELAY_SECONDS = 0.5
_LONGEST_DELAY_SECONDS = 30.0
_STABLE_SECONDS = 60.0  # a run of this length resets the back-off
_FIRST_SIGN_SECONDS = 120.0  # a busy machine takes long to import
_NEEDS_PATIENCE_SECONDS = 20.0
_POLL_SECONDS = 0.1
# Together the four seconds after which docs/operations.md says that a child is killed.
_STOP_SECONDS = 3.5
_STOP_LAST_SECONDS = 0.5
_SAME_STOP_SECONDS = 0.2
# A worker that answers a ping but runs no task is taken as fully busy for this many limits.
_BUSY_LIMITS = 5


@dataclass(frozen=True)
class Timing:
    """How often signs of life are sent and how old one may get, in seconds."""

    heartbeat_seconds: float
    limit_seconds: float

    @property
    def check_seconds(self) -> float:
        """Return the seconds between two checks of the signs."""
        return min(5.0, self.heartbeat_seconds / 2)


class _Slot:
    """A process, its child, and whether it is ready."""

    def __init__(self, process: Process, child: Child) -> None:
        self.process = process
        self.child = child
        self.ready = asyncio.Event()
        self.last_sign: float | None = None
        self.busy_pid: int | None = None  # of the worker that was reported as busy


class Supervisor:
    """Runs processes until :meth:`stop` is called or a signal to stop arrives."""

    def __init__(
        self,
        processes: list[Process],
        *,
        directory: Path,
        timing: Timing,
        write_line: WriteLine,
        on_ready: Callable[[str], None],
        mark: str = "",
    ) -> None:
        self._mark = mark
        self._slots = {
            process.name: _Slot(
                process,
                Child(
                    process.name,
                    directory=directory,
                    write_line=_filtered_writer(process, write_line),
                ),
            )
            for process in processes
        }
        self._timing = timing
        self._write_line = write_line
        self._on_ready = on_ready
        self._stopping = asyncio.Event()
        self._stopped_at = 0.0
        self._workers = [slot for slot in self._slots.values() if slot.process.is_worker]

    async def run(self) -> None:
        """Start everything and return when everything has stopped."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self.stop)
        runners = [asyncio.create_task(self._run(slot)) for slot in self._slots.values()]
        watchers = [asyncio.create_task(self._watch())]
        if self._workers:
            watchers.append(asyncio.create_task(self._send_heartbeats()))
        try:
            stopping = asyncio.create_task(self._stopping.wait())
            await asyncio.wait([stopping, *runners, *watchers], return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._stopping.set()
            for watcher in watchers:
                watcher.cancel()
            await self._stop_children()
            results = await asyncio.gather(*runners, *watchers, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                raise result

    def stop(self) -> None:
        """Begin to stop; a second call kills what still runs.

        One that follows at once is the same stop: systemd sends its signal to all processes of a
        unit, and the one above us (:mod:`opscenter.processes.json_output`) passes its own on.
        """
        now = time.monotonic()
        if self._stopping.is_set():
            if now - self._stopped_at >= _SAME_STOP_SECONDS:
                self._signal_all(signal.SIGKILL)
            return
        self._stopped_at = now
        self._report("stopping")
        self._stopping.set()

    def _report(self, text: str, level: str = "INFO") -> None:
        self._write_line("up", text, level)

    # --- Running ------------------------------------------------------------------------------

    async def _run(self, slot: _Slot) -> None:
        delay = _FIRST_DELAY_SECONDS
        while not self._stopping.is_set():
            await self._wait_for_needs(slot.process)
            began = time.monotonic()
            outcome = await self._run_once(slot)
            if self._stopping.is_set():
                return
            if time.monotonic() - began >= _STABLE_SECONDS:
                delay = _FIRST_DELAY_SECONDS
            self._report(
                f"{slot.process.name} {outcome}; starting it again in {delay:g} s", "ERROR"
            )
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), delay)
            delay = min(delay * 2, _LONGEST_DELAY_SECONDS)

    async def _run_once(self, slot: _Slot) -> str:
        """Run the process until it ends; return what happened, in words."""
        try:
            command = await asyncio.to_thread(_command_of, slot.process)
        except Exception as exc:  # the other processes go on in any case
            logger.exception("%s cannot be prepared", slot.process.name)
            return f"cannot be prepared ({exc})"
        if command is None:
            self._report(f"{slot.process.name} is not started", "WARNING")
            await self._stopping.wait()
        if command is None or self._stopping.is_set():
            return "is not started"
        slot.last_sign = None
        announcer = asyncio.create_task(self._announce(slot))
        try:
            status = await slot.child.run(self._marked(slot.process, command))
        except OSError as exc:
            return f"cannot be started ({exc})"
        finally:
            announcer.cancel()
            slot.ready.clear()
        return f"ended with {describe_status(status)}"

    def _marked(self, process: Process, command: Command) -> Command:
        """Tell a process that writes records its name and our mark."""
        if not (self._mark and process.writes_records):
            return command
        ours = {PROCESS_VARIABLE: process.name, MARK_VARIABLE: self._mark}
        return Command(command.arguments, {**command.environment, **ours})

    async def _announce(self, slot: _Slot) -> None:
        """Set the slot's ready event once the process answers."""
        is_ready = slot.process.is_ready
        ready = False
        while not ready:
            await asyncio.sleep(_POLL_SECONDS)
            ready = slot.child.pid is not None and (is_ready is None or await is_ready())
        slot.ready.set()
        self._on_ready(slot.process.name)

    async def _wait_for_needs(self, process: Process) -> None:
        """Wait for what the process needs, up to a limit: then it starts anyway and retries."""
        needs = [self._slots[name].ready for name in process.needs if name in self._slots]
        deadline = time.monotonic() + _NEEDS_PATIENCE_SECONDS
        while not all(event.is_set() for event in needs):
            if self._stopping.is_set() or time.monotonic() > deadline:
                return
            await asyncio.sleep(_POLL_SECONDS)

    # --- Watching -----------------------------------------------------------------------------

    async def _watch(self) -> None:
        liveness = Liveness(
            limit_seconds=self._timing.limit_seconds,
            first_sign_seconds=_FIRST_SIGN_SECONDS,
            check_seconds=self._timing.check_seconds,
            through=signs_through(),
        )
        while True:
            signs = await self._signs()
            for name in liveness.hung(signs, time.time()):
                if name not in self._slots:
                    continue
                await self._end_hung(name, signs[name])
            await asyncio.sleep(self._timing.check_seconds)

    async def _signs(self) -> dict[str, Sign]:
        """Return the signs of life of all processes that give one."""
        slots = [slot for slot in self._slots.values() if slot.process.last_sign is not None]
        await asyncio.gather(*(self._check(slot) for slot in slots))
        now = time.time()
        # One that waits for its restart gives no sign, and excuses those whose sign it carries.
        ours = {
            slot.process.name: Sign(slot.child.started_at or now, slot.last_sign) for slot in slots
        }
        # What runs elsewhere is not ours to restart, but its silence excuses ours.
        others = sorted(set(signs_through().values()) - set(self._slots))
        seen = await asyncio.gather(*(carrier_sign(name) for name in others))
        return ours | {name: Sign(0.0, at) for name, at in zip(others, seen, strict=True)}

    async def _check(self, slot: _Slot) -> None:
        if slot.process.last_sign is not None and slot.child.pid is not None:
            slot.last_sign = await slot.process.last_sign() or slot.last_sign

    async def _end_hung(self, name: str, sign: Sign) -> None:
        slot = self._slots[name]
        silent = time.time() - max(sign.started_at, sign.seen_at or 0)
        if (
            slot.process.is_worker
            and silent < self._timing.limit_seconds * _BUSY_LIMITS
            and await asyncio.to_thread(_worker_answers, name)
        ):
            if slot.child.pid != slot.busy_pid:
                text = f"{name} is busy: no heartbeat for {silent:.0f} s, but it answers"
                self._report(text, "WARNING")
            slot.busy_pid = slot.child.pid
            return
        self._report(f"{name} hangs: no sign of life for {silent:.0f} s, killing it", "ERROR")
        slot.child.send(signal.SIGKILL)

    async def _send_heartbeats(self) -> None:
        """Send each worker our own task, so that its silence is not blamed on beat."""
        while True:
            await asyncio.sleep(self._timing.heartbeat_seconds)
            for slot in self._workers:
                if slot.child.pid is not None:
                    await asyncio.to_thread(
                        _send_heartbeat, slot.process.name, self._timing.heartbeat_seconds * 2
                    )

    # --- Stopping -----------------------------------------------------------------------------

    async def _stop_children(self) -> None:
        """Ask all to end, kill what does not, and end Redis last."""
        # Backwards: the agent must be told to stop before it sees its hub close.
        others = [slot for name, slot in reversed(self._slots.items()) if name != STOPS_LAST]
        await _end(others, _STOP_SECONDS)
        await _end(
            [slot for name, slot in self._slots.items() if name == STOPS_LAST], _STOP_LAST_SECONDS
        )

    def _signal_all(self, number: signal.Signals) -> None:
        for slot in self._slots.values():
            slot.child.send(number)


def _filtered_writer(process: Process, write_line: WriteLine) -> Callable[[str, str], None]:
    """Return a writer that passes on what the process's filter accepts, but no empty line."""

    def write(name: str, line: str) -> None:
        if line.strip() and (process.is_notable is None or process.is_notable(line)):
            write_line(name, line)

    return write


def _command_of(process: Process) -> Command | None:
    """Return the process's command; call it in a thread, because it may query the database."""
    close_old_connections()
    try:
        return process.command()
    finally:
        close_old_connections()


async def _end(slots: list[_Slot], grace_seconds: float) -> None:
    for slot in slots:
        slot.child.send(signal.SIGTERM)
    ended = [slot.child.ended.wait() for slot in slots]
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(asyncio.gather(*ended), grace_seconds)
    for slot in slots:
        slot.child.send(signal.SIGKILL)


def _send_heartbeat(worker: str, expires_seconds: float) -> None:
    try:
        app.send_task(
            "opscenter.heartbeat",
            args=["up", worker],
            queue=heartbeat_queue(worker),
            expires=expires_seconds,
            retry=False,
        )
    except (KombuError, OSError) as exc:
        # Redis is watched separately; this only says why no task was sent.
        logger.debug("no heartbeat task sent: %s", exc)


def _worker_answers(name: str) -> bool:
    """Return whether a worker's control channel, which needs no free thread, answers."""
    try:
        return bool(app.control.ping(destination=[node_name(name)], timeout=3.0))
    except (KombuError, OSError):
        return False
