"""``python -m tests.run``: the whole suite as ``make test`` runs it.

Everything runs in its own data directory, in any environment. Without options:
on SQLite, first what may run side by side, then, in lanes, the tests that start the whole system
and those of a browser. With ``--postgresql``: the tests that use Django's database, on a
private PostgreSQL. Further arguments go to pytest.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.postgresql import MissingProgramError, find_binaries, private_postgresql

# Program -> Debian package. What is missing fails the run: a skipped test proves nothing.
PROGRAMS = {
    "redis-server": "redis-server",
    "ssh": "openssh-client",
    "sshd": "openssh-server",
    "chromium": "chromium",
    "influxd": "influxdb",
    "prometheus": "prometheus",
    "promtool": "prometheus",
    "prometheus-node-exporter": "prometheus-node-exporter",
    "victoria-metrics": "victoria-metrics",
    "etcd": "etcd-server",
}
_SLOW = "e2e or browser"
_OURS = ("OPSCENTER_", "DATABASE_", "REDIS_", "METRICS_", "INFLUXDB_")
_FOR_TESTS = "OPSCENTER_TEST_"  # a server that tests may use
ROOM = 4 << 30  # bytes; what all files of a run take, and as much again
WORKERS = min(4, os.cpu_count() or 1)
# A lane per core for whole systems: with one more of them, those that have to stop or answer in
# time did not always. They mostly wait, so one more lane is for pages. tests/lanes.py says what
# stays together, and which lane takes what.
_LANES = ("-n", str(WORKERS + 1), "--lanes")


def missing_programs() -> list[str]:
    """Return one line for each program that the tests need and the PATH lacks."""
    path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"))
    result = [
        f"{program} is missing: apt-get install {package}"
        for program, package in PROGRAMS.items()
        if shutil.which(program, path=path) is None
    ]
    try:
        find_binaries()
    except MissingProgramError as exc:
        result.append(str(exc))
    return result


def _fast_directory() -> str | None:
    """Return a file system in memory with enough room; None if there is none: the usual one.

    The stores write through to the disk at each commit, which is half of what many tests take.
    """
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK) or shutil.disk_usage(memory).free < ROOM:
        return None
    return str(memory)


def _environment(directory: Path) -> dict[str, str]:
    """Return what the tests may see of the environment, with all their files in ``directory``."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name.startswith(_FOR_TESTS) or not name.startswith(_OURS)
    }
    # Without compiled files each of some hundred processes compiles all modules again, and each
    # pytest rewrites all assertions: half of what a start takes.
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    return kept | {"OPSCENTER_DATA_DIR": str(directory / "data"), "TMPDIR": str(directory)}


def _pytest(environment: dict[str, str], *arguments: str) -> int:
    command = [sys.executable, "-m", "pytest", "-q", *arguments]
    print("+", *command[1:], flush=True)
    return subprocess.run(command, env=environment, check=False).returncode


def _run_part(part: str, environment: dict[str, str], rest: list[str]) -> int:
    """Run one part of the suite; return 0 only if all of it passed."""
    side_by_side = ("-n", str(WORKERS))
    if part == "--quick":
        without = {n: v for n, v in environment.items() if not n.startswith(_FOR_TESTS)}
        return _pytest(without, *side_by_side, "-m", "quick", *rest)
    if part == "--postgresql":
        with private_postgresql() as url:
            environment["DATABASE_URL"] = url
            chosen = ("-m", f"not ({_SLOW})", "--database-only")
            return _pytest(environment, *side_by_side, *chosen, *rest)
    return max(
        _pytest(environment, *side_by_side, "-m", f"not ({_SLOW})", *rest),
        _pytest(environment, *_LANES, "-m", _SLOW, *rest),
    )


def main(arguments: list[str]) -> int:
    """Run the suite, or the part that an option names; return 0 only if every part passed."""
    part = next((a for a in arguments if a in ("--quick", "--postgresql")), "")
    missing = [] if part == "--quick" else missing_programs()
    if missing:
        sys.stderr.write("".join(f"tests: {line}\n" for line in missing))
        return 2
    rest = [argument for argument in arguments if argument != part]
    # A short name: those of unix sockets below it may have 107 characters.
    with tempfile.TemporaryDirectory(prefix="oc", dir=_fast_directory()) as directory:
        Path(directory).chmod(0o755)  # PostgreSQL runs as somebody else
        return _run_part(part, _environment(Path(directory)), rest)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
