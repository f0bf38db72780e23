"""Four range queries at the bound, in a process of their own: prints by how many MB it grew.

:func:`main` runs in ``manage.py shell`` with an ``OPSCENTER_DATA_DIR`` of its own.
"""

from __future__ import annotations

import re
import threading
import time
from pathlib import Path

from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connections
from django.test import Client

from clusters.models import Cluster
from metrics.query import STREAM
from metrics.series.rows import SeriesKey
from metrics.stores import get_store
from metrics.stores.writer import Batch
from tests.factories import api_token
from tests.metrics.stores.contract import row, window

PODS, MINUTES = 400, 52
T0 = int(time.time()) // 60 * 60 - 60 * MINUTES  # minutes are kept for a while only
ASKED = 160  # series of an answer: 160 * 3,101 samples of one second each
BASE = "/prometheus/api/v1/"


def grown() -> int:
    """Return the most memory that this process ever had, in kB."""
    found = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    assert found
    return int(found[1])


def fill() -> list[str]:
    """Store an hour of pods; return the tokens of two users who see them."""
    cluster = Cluster.objects.create(name="north-1")
    keys = [SeriesKey("pod", "shop", f"web-{number:04}") for number in range(PODS)]
    for minute in range(MINUTES):
        at = T0 + 60 * minute
        rows = [row(key, at, cpu_mc=100 + minute, mem_ws=10**9 + minute) for key in keys]
        batch = Batch(rows, [], [window(at, at + 60)], head=at + 60, watermark=at + 60)
        get_store().write(cluster.pk, STREAM, batch)
    users = [User.objects.create_superuser(name) for name in ("one", "two")]
    return [api_token(user, read_only=True) for user in users]


def ask(token: str, answers: list[object]) -> None:
    """Ask for all that one answer may have, and keep the answer as a slow reader would."""
    pods = "|".join(f"web-{number:04}" for number in range(ASKED))
    given = {
        "query": f'opscenter_pod_mem_ws{{pod=~"{pods}"}}',
        "start": T0 + 20, "end": T0 + 20 + 3100, "step": 1,
    }  # fmt: skip
    headers = {"Authorization": f"Bearer {token}"}
    answer = Client(SERVER_NAME="localhost").get(BASE + "query_range", given, headers=headers)
    assert answer.status_code == 200, answer.content
    assert int(answer["Content-Length"]) > 10_000_000
    answers.append(answer)
    connections.close_all()


def main() -> None:
    """Ask, and print the growth in MB."""
    call_command("migrate", verbosity=0)
    tokens = fill()
    Client(SERVER_NAME="localhost").get("/healthz")  # imports what a first request does
    before = grown()
    answers: list[object] = []
    threads = [threading.Thread(target=ask, args=(token, answers)) for token in tokens * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(len(answers), (grown() - before) // 1000)
