"""Every process is killed with ``kill -9`` in turn, under load: no minute is lost or duplicated.

The load is a simulated fleet with real tunnels and this machine's own agent. What the store holds
at the end is compared, number by number, with what the clusters know.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from datetime import datetime
from uuid import UUID

import pytest

from metrics.series.rows import SeriesKey
from metrics.stores.sqlite.store import SqliteStore
from tests.centre import Centre, wait_until
from tests.e2e.stored import closed_minute, differences
from tests.fleet.world import World

pytestmark = pytest.mark.e2e

SEED, CLUSTERS, HISTORY_MINUTES = 11, 6, 45
VICTIMS = ("worker", "hub", "beat", "redis", "agent", "web")
LOAD = {
    "OPSCENTER_PULL_INTERVAL_SECONDS": "5",
    "OPSCENTER_HEARTBEAT_SECONDS": "2",
    "OPSCENTER_HEARTBEAT_LIMIT_SECONDS": "15",
}


@pytest.fixture(scope="module")
def centre(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Centre]:
    centre = Centre(tmp_path_factory.mktemp("killed") / "data", **LOAD)
    centre.start()
    centre.wait_until_ready()
    yield centre
    centre.close()


@pytest.fixture(scope="module")
def fleet(centre: Centre) -> Iterator[None]:
    options = (
        *("--calm", "--pods-per-node", "10", "--seed", str(SEED), "--clusters", str(CLUSTERS)),
        *("--history-minutes", str(HISTORY_MINUTES)),
    )
    with centre.simulated_fleet(*options):
        yield


def overview(centre: Centre, token: str) -> dict[str, dict]:
    status, body = centre.get("/api/v1/clusters/", {"Authorization": f"Token {token}"})
    if status != 200:
        return {}
    return {item["name"]: item for item in json.loads(body)["results"]}


def gaps_of(centre: Centre, token: str, cluster_id: str) -> list[dict]:
    path = f"/api/v1/clusters/{cluster_id}/windows?state=gap"
    status, body = centre.get(path, {"Authorization": f"Token {token}"})
    assert status == 200, body
    answer = json.loads(body)
    return answer["results"] if isinstance(answer, dict) else answer


def test_no_minute_is_lost_or_duplicated_when_every_process_is_killed(centre, fleet):
    token = centre.manage("create_token", "e2e", "--user", "admin").stdout.strip()
    wait_until(
        lambda: sum(1 for c in overview(centre, token).values() if c["data_as_of"]) == CLUSTERS + 1,
        "all clusters report",
        180,
    )
    began = closed_minute()
    for victim in VICTIMS:
        before = centre.wait_for_children(victim)[victim]
        os.kill(before, signal.SIGKILL)
        wait_until(lambda v=victim, b=before: centre.children().get(v, b) != b, f"{victim} is back")
        time.sleep(12)  # under load until the next one dies
    ended = closed_minute()
    centre.wait_until_ready()

    known = overview(centre, token)
    for item in known.values():
        wait_until(lambda i=item: not gaps_of(centre, token, i["id"]), f"no gap: {item['name']}")
    wait_until(
        lambda: all(_as_of(item) >= ended for item in overview(centre, token).values()),
        "data is as new as before the last kill",
    )

    store = SqliteStore(centre.data_dir / "metrics.sqlite3")
    assert store.check() == "ok"
    start = began - 30 * 60
    wrong = []
    for name, item in known.items():
        if name != "this-machine":
            world = World.make(SEED, _index(name), pods_per_node=10, churn=_index(name) % 10 == 0)
            wrong += differences(store, UUID(item["id"]), world, start, ended)
    assert wrong == []

    [host] = store.last(UUID(known["this-machine"]["id"]), "node")
    minutes = store.read(
        UUID(known["this-machine"]["id"]),
        SeriesKey("node", "", host.key.name), "cpu_mc", "1m", began, ended,
    ).t  # fmt: skip
    assert minutes == list(range(began, ended, 60))
    store.close()


def _as_of(item: dict) -> float:
    return datetime.fromisoformat(item["data_as_of"]).timestamp()


def _index(name: str) -> int:
    return int(name.rsplit("-", 1)[1]) - 1
