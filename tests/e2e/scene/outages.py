"""What happens to real agents of this machine, each story in a thread of its own, in real time."""

from __future__ import annotations

import json
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from uuid import UUID

from metrics.series import rollups
from metrics.stores.sqlite.store import SqliteStore
from tests.agent.tunnel.test_openssh import SCRIPT
from tests.centre import wait_until
from tests.e2e.agents import Agent, Process
from tests.e2e.centreapi import Pages, moment
from tests.e2e.stored import closed_minute, series_differences

if TYPE_CHECKING:
    from tests.e2e.scene.conftest import Scene

SWALLOWED_SECONDS, REFUSED_SECONDS = 80, 60
KNOWN_DOWN_SECONDS = 100  # keepalives 45 s, grace 30 s, and the intervals of judging and recording
BACK_SECONDS = 90  # the agent's longest wait between two dials is 60 s


def the_link_is_cut(scene: Scene) -> None:
    cluster_id, token = scene.api.add_cluster("link-cut")
    agent = scene.agent("link-cut", TOKEN=token, TRANSPORT="tcp")
    agent.run()
    scene.wait_for_data(cluster_id)
    before = scene.api.cluster(cluster_id)
    assert before["tunnel"]["up"]

    if time.time() % 60 > 40:  # a pull that meets the silence itself would call it service_down
        _sleep_until(closed_minute() + 60)
    cut_at = time.time()
    scene.link.swallow()
    unknown = wait_until(
        lambda: _in_state(scene, cluster_id, "unknown"), "unknown", KNOWN_DOWN_SECONDS
    )
    health = unknown["health"]
    assert health["was"] == before["health"]["state"]
    assert cut_at - 60 < moment(health["since"]) < cut_at + 60
    assert health["reason"].startswith("tunnel lost: ")
    assert not unknown["tunnel"]["up"]
    gap = wait_until(lambda: scene.api.windows(cluster_id, "gap"), "the ledger shows a gap")[0]
    assert gap["reason"] == "tunnel_down", gap
    _last_data_stays_readable(scene, cluster_id, unknown)

    _sleep_until(cut_at + SWALLOWED_SECONDS)
    scene.link.refuse()
    _sleep_until(cut_at + SWALLOWED_SECONDS + REFUSED_SECONDS)
    assert scene.api.cluster(cluster_id)["health"]["state"] == "unknown"
    assert {w["reason"] for w in scene.api.windows(cluster_id, "gap")} == {"tunnel_down"}
    restored_at = time.time()
    scene.link.restore()

    wait_until(
        lambda: scene.api.cluster(cluster_id)["tunnel"]["up"], "the tunnel is back", BACK_SECONDS
    )
    settled = _settled(scene, cluster_id, restored_at)
    assert settled["health"]["state"] == before["health"]["state"]
    filled = [w for w in scene.api.windows(cluster_id, "done") if w["filled_at"]]
    over = [w for w in filled if w["start"] < restored_at and w["end"] > cut_at]
    assert over, scene.api.windows(cluster_id)
    assert all(w["reason"] == "tunnel_down" and w["filled_at"] >= restored_at for w in over), over
    assert all(w["got_minutes"] == w["expected_minutes"] for w in over), over
    minutes = _compare_with_spool(scene, cluster_id, agent)
    assert minutes == list(range(minutes[0], minutes[-1] + 60, 60))
    assert minutes[0] <= cut_at
    assert minutes[-1] >= restored_at - 60


def the_agent_is_killed(scene: Scene) -> None:
    cluster_id, token = scene.api.add_cluster("agent-killed")
    # By WebSocket, which goes past the link that the other story cuts.
    agent = scene.agent("agent-killed", TOKEN=token, TRANSPORT="ws")
    agent.run()
    scene.wait_for_data(cluster_id)
    killed_in = closed_minute() if time.time() % 60 < 50 else closed_minute() + 60
    _sleep_until(killed_in + 20)  # at least one sample of this minute is in
    agent.end(signal.SIGKILL)
    dead = killed_in + 60
    _sleep_until(dead + 60 + 3)
    restarted_at = time.time()
    agent.run()
    wait_until(lambda: scene.api.windows(cluster_id, "lost"), "the dead minute is lost", 120)
    settled = _settled(scene, cluster_id, restarted_at)
    assert settled["tunnel"]["up"]

    minutes = _compare_with_spool(scene, cluster_id, agent)
    assert sorted(set(range(minutes[0], minutes[-1] + 60, 60)) - set(minutes)) == [dead]
    [lost] = [w for w in scene.api.windows(cluster_id, "lost") if w["start"] <= dead < w["end"]]
    assert lost["reason"] == "agent_stopped"
    assert lost["got_minutes"] == lost["expected_minutes"] - 1
    assert lost["detail"].startswith("nothing was recorded"), lost


def the_service_is_stopped(scene: Scene) -> None:
    """Stock OpenSSH keeps the tunnel, so that it is up while what is behind it is not."""
    cluster_id, token = scene.api.add_cluster("service-down")
    agent = scene.agent("service-down", "serve")
    agent.run()
    tunnel = _openssh_tunnel(scene, token, agent.port)
    scene.wait_for_data(cluster_id)
    agent.end(signal.SIGTERM)
    gap = wait_until(lambda: scene.api.windows(cluster_id, "gap"), "a gap", 120)[0]
    assert gap["reason"] == "service_down", gap
    seen = scene.api.cluster(cluster_id)
    assert seen["tunnel"]["up"]
    assert seen["pull"]["error_code"] == "service_down"
    assert "refused" in seen["pull"]["error"]
    restarted_at = time.time()
    agent.run()
    _settled(scene, cluster_id, restarted_at)
    _compare_with_spool(scene, cluster_id, agent)
    assert f"connect_to 127.0.0.1 port {agent.port}: failed" in tunnel.output  # stock ssh's words


OUTAGES: dict[str, Callable[[Any], None]] = {
    story.__name__: story
    for story in (the_link_is_cut, the_agent_is_killed, the_service_is_stopped)
}


def _last_data_stays_readable(scene: Scene, cluster_id: str, seen: dict[str, Any]) -> None:
    as_of = int(moment(seen["data_as_of"]))
    assert as_of
    [node] = scene.api.get(f"/clusters/{cluster_id}/nodes/")["results"]
    asked = f"kind=node&name={node['name']}&field=cpu_mc&start={as_of - 60}&end={as_of}"
    answer = scene.api.get(f"/clusters/{cluster_id}/range?{asked}")
    assert answer["t"] == [as_of - 60]
    pages = Pages(scene.centre)
    page = pages.get(f"/clusters/{cluster_id}/")
    assert f"(was {seen['health']['was']})" in page
    assert "Unknown since" in page
    assert "Last known state" in page
    assert node["name"] in page
    assert "the tunnel was down" in page or "tunnel down" in page
    assert node["name"] in pages.get(f"/clusters/{cluster_id}/nodes/{node['name']}/")


def _in_state(scene: Scene, cluster_id: str, state: str) -> dict[str, Any] | None:
    seen = scene.api.cluster(cluster_id)
    return seen if seen["health"]["state"] == state else None


def _settled(scene: Scene, cluster_id: str, since: float) -> dict[str, Any]:
    """Wait until data newer than ``since`` is in and nothing is missing before it."""
    newest = (int(since) // 60 + 1) * 60

    def filled() -> dict[str, Any] | None:
        seen = scene.api.cluster(cluster_id)
        late = moment(seen["data_as_of"]) < newest or scene.api.windows(cluster_id, "gap")
        return None if late else seen

    return wait_until(filled, "everything is filled", 180)


def _compare_with_spool(scene: Scene, cluster_id: str, agent: Agent) -> list[int]:
    """Compare the store with the agent's own answer, every number; return the stored minutes."""
    as_of = int(moment(scene.api.cluster(cluster_id)["data_as_of"]))
    start = as_of // 3600 * 3600 - 3600
    store = SqliteStore(scene.centre.data_dir / "metrics.sqlite3")
    wrong: list[str] = []
    minutes: set[int] = set()
    for (key, field), cells in agent.cells(start, as_of).items():
        stored = {ts: rollups.minute(cell) for ts, cell in cells.items()}
        wanted = {ts: cell for ts, cell in stored.items() if cell is not None}
        span = (start, as_of)
        wrong += series_differences(store, UUID(cluster_id), key, field, wanted, span)
        if key.kind == "node":
            minutes |= wanted.keys()
    store.close()
    assert wrong == []
    return sorted(minutes)


def _openssh_tunnel(scene: Scene, token: str, port: int) -> Process:
    """Enrol a key by hand and keep a tunnel with stock ssh, as docs/agent.md says."""
    key = scene.directory / "opscenter_key"
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(key)], check=True
    )
    public = " ".join(key.with_suffix(".pub").read_text().split()[:2])
    body = {"token": token, "public_key": public, "agent_version": "openssh", "kind": "host"}
    request = urllib.request.Request(
        f"{scene.centre.url}/api/v1/agents/enrol",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=20) as response:
        answer = json.loads(response.read())
    hub = f"127.0.0.1:{scene.centre.hub_port}"  # past the link that the other story cuts
    known = scene.directory / "known_hosts"
    known.write_text(f"[{hub.partition(':')[0]}]:{scene.centre.hub_port} "
                     f"{answer['hub']['known_hosts'][0]}\n")  # fmt: skip
    tunnel = Process(
        "sh", str(SCRIPT),
        OPSCENTER_SSH_HUB=hub,
        OPSCENTER_SSH_CLUSTER=answer["cluster_id"],
        OPSCENTER_SSH_KEY=str(key),
        OPSCENTER_SSH_KNOWN_HOSTS=str(known),
        OPSCENTER_SSH_FORWARDS=f"agent:9099:127.0.0.1:{port}",
    )  # fmt: skip
    scene.closing.append(tunnel)
    tunnel.start(scene.directory / "openssh.log")
    return tunnel


def _sleep_until(moment_at: float) -> None:
    time.sleep(max(0.0, moment_at - time.time()))
