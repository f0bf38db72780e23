"""``make bench``: every figure beside its baseline, in one run.

Works on a data directory of its own, thrown away afterwards. Names of areas as arguments run only
those: ``make bench BENCH_FLAGS="tunnel pages"``; ``--scale`` makes fleets larger or smaller. The
table goes to standard output, the JSON to ``var/bench.json`` or where ``--json`` says.
``--against COMMIT`` measures that commit in turn with this checkout instead.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.bench.against import run_against
from tests.bench.openssh import free_port
from tests.bench.report import Report

AREAS = (
    "store",
    "influxstore",
    "size",
    "recovery",
    "crash",
    "python",
    "pull",
    "cost",
    "tunnel",
    "pages",
)
_SCALED = ("influxstore", "size", "recovery", "cost")


def main() -> None:
    """Run the areas that were asked for, all by default."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("areas", nargs="*", metavar="area", help=", ".join(AREAS))
    parser.add_argument("--scale", type=float, default=1.0, help=f"of the fleets of {_SCALED}")
    parser.add_argument("--json", type=Path, default=Path("var/bench.json"))
    parser.add_argument("--markdown", type=Path, help="write the table for the documentation")
    parser.add_argument("--against", metavar="COMMIT", help="measure it in turn with this one")
    parser.add_argument("--rounds", type=int, default=3, help="of each, with --against")
    arguments = parser.parse_args()
    if arguments.against:
        areas = arguments.areas or AREAS
        run_against(arguments.against, areas, arguments.scale, arguments.rounds)
        return
    report = Report()
    try:
        with tempfile.TemporaryDirectory(prefix="opscenter-bench-") as directory:
            _prepare(directory)
            with _redis():
                for area in arguments.areas or AREAS:
                    run = importlib.import_module(f"tests.bench.{area}").run
                    run(report, *((arguments.scale,) if area in _SCALED else ()))
    finally:  # what was measured before a failure is kept
        report.write(arguments.json)
        if arguments.markdown:
            arguments.markdown.write_text(report.markdown(), encoding="utf-8")
    print(f"\n{report.table()}\n\n{arguments.json}")


def _prepare(directory: str) -> None:
    """Point the settings at an empty installation and migrate it."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "opscenter.settings"
    os.environ["OPSCENTER_DATA_DIR"] = directory
    os.environ["OPSCENTER_LOG_LEVEL"] = "ERROR"
    os.environ["OPSCENTER_HUB_PORT"] = str(free_port())
    os.environ["OPSCENTER_HUB_WS_PORT"] = str(free_port())
    for name in ("DATABASE_URL", "REDIS_URL", "OPSCENTER_GATEWAY_URL"):
        os.environ.pop(name, None)
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)


@contextlib.contextmanager
def _redis() -> Iterator[None]:
    """Run the private Redis of the installation until the block ends."""
    from django.conf import settings

    from opscenter.processes.redis_server import find_redis, redis_arguments

    socket = Path(settings.REDIS_URL.removeprefix("unix://"))
    command = redis_arguments(find_redis(), socket)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()
