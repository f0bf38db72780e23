"""``python -m tests.run``: the whole suite as ``make test`` runs it.

Everything runs in a data directory of its own, whatever the environment says. Without options:
on SQLite, first what may run side by side, then the tests of a browser, then, in two lanes, those
that start the whole system. With ``--postgresql``: the tests that use Django's database, on a
private PostgreSQL. Further arguments go to pytest.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile

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


def _pytest(environment: dict[str, str], *arguments: str) -> int:
    command = [sys.executable, "-m", "pytest", "-q", *arguments]
    print("+", *command[1:], flush=True)
    return subprocess.run(command, env=environment, check=False).returncode


def main(arguments: list[str]) -> int:
    """Run the suite; return 0 only if every part passed."""
    missing = missing_programs()
    if missing:
        sys.stderr.write("".join(f"tests: {line}\n" for line in missing))
        return 2
    on_postgresql = "--postgresql" in arguments
    rest = [argument for argument in arguments if argument != "--postgresql"]
    workers = str(min(4, os.cpu_count() or 1))
    with tempfile.TemporaryDirectory(prefix="opscenter-tests-") as data_dir:
        environment = {
            name: value
            for name, value in os.environ.items()
            if name.startswith(_FOR_TESTS) or not name.startswith(_OURS)
        }
        environment["OPSCENTER_DATA_DIR"] = data_dir
        side_by_side = ("-n", workers, "-m", f"not ({_SLOW})")
        # Whole systems mostly wait. A file stays in one lane, for its tests may share what they
        # started; in the files' own order, as those with few tests take longest.
        two_lanes = ("-n", "2", "--dist", "loadfile", "--no-loadscope-reorder")
        if on_postgresql:
            with private_postgresql() as url:
                environment["DATABASE_URL"] = url
                return _pytest(environment, *side_by_side, "--database-only", *rest)
        codes = [
            _pytest(environment, *side_by_side, *rest),
            # Apart, because Playwright holds an event loop open for as long as its process lives.
            _pytest(environment, "-m", "browser and not e2e", *rest),
            _pytest(environment, *two_lanes, "-m", "e2e", *rest),
        ]
    return max(codes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
