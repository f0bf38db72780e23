"""``manage.py up``: Ops Center on one machine, all processes under one supervisor."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand
from django.db import DatabaseError, connections
from redis.exceptions import RedisError

from metrics.stores import close_stores
from opscenter.core.command_errors import exit_code, one_line_reason
from opscenter.core.env import env_secret
from opscenter.core.heartbeats import redis_client, worker_names
from opscenter.core.json_lines import MARK_VARIABLE
from opscenter.processes.definitions import NAMES, listeners, make_processes
from opscenter.processes.first_start import check_start, greeting, prepare
from opscenter.processes.output import (
    Form,
    JsonForm,
    LineWriter,
    TextForm,
    WriteLine,
    discard_unwritten,
)
from opscenter.processes.preflight import check_listeners, only_one
from opscenter.processes.redis_server import RedisBinary, find_redis
from opscenter.processes.supervisor import Supervisor, Timing


class Command(BaseCommand):
    """Start everything, keep it running, stop it on Ctrl-C."""

    help = (
        "Starts and supervises Redis, web, hub, worker, beat and an agent for this machine."
        " Ctrl-C stops all. docs/operations.md says more."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument(
            "--no-local-agent", action="store_true", help="do not make this machine a cluster"
        )
        parser.add_argument(
            "--only",
            metavar="NAME",
            choices=[name for name in NAMES if name not in ("redis", "agent")],
            help="supervise one process (web, hub, worker or beat), as the containers do;"
            " needs REDIS_URL and a migrated database",
        )

        parser.add_argument(
            "--adopt-empty-store",
            action="store_true",
            help="start with an empty metric store although clusters have data: it is on purpose",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Run until stopped. Exit code 2: a person has to act first; 75: a server is away now."""
        os.umask(0o077)  # also of the children: nothing here is for other users
        only: str | None = options["only"]
        names: tuple[str, ...] = (only,) if only else NAMES
        if options["no_local_agent"]:
            names = tuple(name for name in names if name != "agent")
        try:
            with _lock(only):
                self._run(names, adopt_empty_store=options["adopt_empty_store"])
        except (ImproperlyConfigured, DatabaseError, OSError) as exc:
            print(f"manage.py up: {one_line_reason(exc)}", file=sys.stderr)
            sys.exit(exit_code(exc))

    def _run(self, names: tuple[str, ...], *, adopt_empty_store: bool) -> None:
        redis = _choose_redis(names)
        check_listeners(listeners(names))
        width = max(map(len, (*NAMES, *worker_names())))
        # Between us and our children: what they write behind it are records of theirs.
        mark = secrets.token_hex(8) if settings.LOG_FORMAT == "json" else ""
        form: Form = (
            JsonForm(children=mark, own=os.environ.get(MARK_VARIABLE, ""))
            if mark
            else TextForm(colour=sys.stdout.isatty(), width=width)
        )
        write_line = LineWriter(sys.stdout, form)
        try:
            if redis is not None and redis.warning:
                write_line("up", f"warning: {redis.warning}", "WARNING")
            password = None
            if len(names) > 1:  # a container's database is prepared by `manage.py prepare`
                write_line("up", f"data in {settings.DATA_DIR}", "INFO")
                password = prepare(adopt_empty_store=adopt_empty_store).password
            else:
                check_start(names, adopt_empty_store=adopt_empty_store)
            close_stores()  # the supervisor itself uses none
            connections.close_all()
            asyncio.run(_supervise(names, redis, write_line, password, mark))
        finally:
            write_line.close()
            for stream in (sys.stdout, sys.stderr):
                discard_unwritten(stream)


async def _supervise(
    names: tuple[str, ...],
    redis: RedisBinary | None,
    write_line: WriteLine,
    password: str | None,
    mark: str,
) -> None:
    welcome = [f"Ops Center is at {settings.PUBLIC_URL}/"]
    if password is not None:
        welcome += greeting(password, to_terminal=sys.stdout.isatty())

    def greet(name: str) -> None:
        if name == "web":
            for line in welcome:
                write_line("up", line, "INFO")
            welcome.clear()  # once, not at every restart of web

    supervisor = Supervisor(
        make_processes(names, redis),
        directory=settings.BASE_DIR,
        timing=Timing(settings.HEARTBEAT_SECONDS, settings.HEARTBEAT_LIMIT_SECONDS),
        write_line=write_line,
        on_ready=greet,
        mark=mark,
    )
    await supervisor.run()


def _lock(only: str | None) -> contextlib.AbstractContextManager[None]:
    """Return the lock of this data directory; workers alone may run side by side."""
    if only == "worker":
        return contextlib.nullcontext()
    name = f"up.{only}.lock" if only else "up.lock"
    return only_one(Path(settings.DATA_DIR) / name)


def _choose_redis(names: tuple[str, ...]) -> RedisBinary | None:
    """Return the Redis to start; None if that of REDIS_URL is used (which must answer)."""
    if env_secret("REDIS_URL") is None:
        if "redis" not in names:
            msg = "REDIS_URL is not set; --only needs a Redis that all containers share"
            raise ImproperlyConfigured(msg)
        return find_redis()
    try:
        redis_client().ping()
    except (RedisError, ValueError) as exc:
        parts = urlsplit(settings.REDIS_URL)  # without its password
        msg = f"REDIS_URL: the Redis at {parts.hostname or parts.path} does not answer: {exc}"
        raise ImproperlyConfigured(msg) from exc
    return None
