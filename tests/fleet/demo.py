"""``make demo``: a centre of its own with simulated clusters, all of them labelled so.

Starts ``manage.py up`` on the data directory ``var/demo`` (``OPSCENTER_DATA_DIR`` overrides) and
the simulator beside it. Arguments go to the simulator: ``make demo DEMO_FLAGS="--clusters 20"``.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def main() -> int:
    """Run both until the centre ends or somebody stops it; return the centre's exit code."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.setdefault("OPSCENTER_DATA_DIR", str(ROOT / "var" / "demo"))
    centre = subprocess.Popen(
        [sys.executable, "manage.py", "up", "--no-local-agent"], cwd=ROOT, env=environment
    )
    fleet = subprocess.Popen(
        [sys.executable, "-m", "tests.fleet", *sys.argv[1:]], cwd=ROOT, env=environment
    )

    def stop(number: int, _: object) -> None:
        for process in (fleet, centre):
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    try:
        return centre.wait()
    finally:
        fleet.terminate()
        fleet.wait()


if __name__ == "__main__":
    sys.exit(main())
