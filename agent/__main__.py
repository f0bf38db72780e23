"""``python -m agent join|run|serve|check``.

Exit codes: 0 done or stopped by a signal, 1 refused or gave up (a supervisor may start it again),
2 a configuration that cannot be used.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
import threading
from collections.abc import Sequence

from agent import __version__
from agent.command_line import hide_argument, read_secret
from agent.config import PREFIX, Config, ConfigError, load_config, unknown_variables
from agent.diagnosis import check
from agent.enrol import EnrolmentError, enrol
from agent.service import ListenError, cluster_kind, run, serve, until_signalled
from agent.spool.spool import SpoolError
from agent.state import (
    StateError,
    ensure_key,
    lock_data_dir,
    prepare_data_dir,
    public_line,
    set_ready,
)
from agent.tunnel.client import NoHubError

logger = logging.getLogger("agent")

STOP_SECONDS = 2.5
"""Seconds within which the process ends after a signal, even if a filesystem hangs a thread."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return the exit code."""
    options = vars(_parser().parse_args(arguments))
    command = options.pop("command")
    token_file = options.pop("token_file", None)
    if options.get("token"):
        hide_argument(options["token"])
    try:
        if token_file is not None:
            options["token"] = read_secret(token_file)
        config = load_config(
            overrides={key: one for key, one in options.items() if one is not None}
        )
    except (ConfigError, ValueError) as exc:
        return _fail(2, exc)
    os.environ.pop(f"{PREFIX}TOKEN", None)  # for no child of ours
    _set_up_logging(config.log_level)
    for name in unknown_variables():
        logger.warning("%s is no variable of the agent; is it misspelt?", name)
    try:
        return _COMMANDS[command](config)
    except (EnrolmentError, StateError, ListenError, SpoolError, NoHubError) as exc:
        return _fail(1, exc)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m agent", description="Measure this machine or cluster for an Ops Center."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in {
        "run": "measure, serve and keep the tunnel; joins first where a token is given",
        "join": "join the centre with a token, then exit",
        "serve": "measure and serve the local API, without a tunnel",
        "check": "say what works and what does not",
        "key": "print the public key, to paste it in the Add cluster page",
    }.items():
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("--data-dir", help="where key, enrolment and samples are kept")
        if name in ("run", "join"):
            command.add_argument("--url", help="of the Ops Center")
            token = command.add_mutually_exclusive_group()
            token.add_argument("--token-file", help="holds the join token; - is standard input")
            token.add_argument("--token", help="the join token itself; others may see it")
            command.add_argument("--hub-key", help="fingerprint of the hub's key, SHA256:...")
        if name in ("run", "serve"):
            command.add_argument("--listen", help="of the local API: 127.0.0.1:PORT or a path")
    return parser


def _join(config: Config) -> int:
    if not config.url or not config.token:
        return _fail(2, "join needs --url and --token-file (or OPSCENTER_AGENT_URL and _TOKEN)")
    prepare_data_dir(config.data_dir)
    with lock_data_dir(config.data_dir):
        enrolment = asyncio.run(enrol(config, kind=cluster_kind(config)))
    sys.stdout.write(f"joined as {enrolment.cluster_name}; now start: python -m agent run\n")
    return 0


def _run(config: Config) -> int:
    prepare_data_dir(config.data_dir)
    with lock_data_dir(config.data_dir):
        set_ready(config.ready_path, None)
        asyncio.run(until_signalled(run(config), on_stop=_end_within_limit))
    return 0


def _serve(config: Config) -> int:
    prepare_data_dir(config.data_dir)
    with lock_data_dir(config.data_dir):
        asyncio.run(until_signalled(serve(config), on_stop=_end_within_limit))
    return 0


def _check(config: Config) -> int:
    async def report() -> bool:
        ok = True
        async for finding in check(config):
            sys.stdout.write(f"{'ok  ' if finding.ok else 'FAIL'}  {finding.text}\n")
            ok = ok and finding.ok
        return ok

    return 0 if asyncio.run(report()) else 1


def _key(config: Config) -> int:
    prepare_data_dir(config.data_dir)
    sys.stdout.write(public_line(ensure_key(config.data_dir)) + "\n")
    return 0


_COMMANDS = {"run": _run, "join": _join, "serve": _serve, "check": _check, "key": _key}


def _end_within_limit() -> None:
    """End the process soon even if a thread hangs, as one that reads a dead mount does."""
    timer = threading.Timer(STOP_SECONDS, os._exit, (0,))
    timer.daemon = True
    timer.start()


def _set_up_logging(level: str) -> None:
    logging.basicConfig(
        level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
    logging.getLogger("asyncssh").setLevel(logging.WARNING)


def _fail(code: int, reason: object) -> int:
    sys.stderr.write(f"opscenter-agent: {reason}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
