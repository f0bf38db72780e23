"""The clusters behind the browser tests: a process that makes them, keeps them fresh and lets
things happen to them, by lines on its standard input. Run as ``python -m tests.browser.world``.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "opscenter.settings")
import django

django.setup()

from django.core.management import call_command  # noqa: E402
from django.db import transaction  # noqa: E402

from clusters import services, status_summary  # noqa: E402
from clusters.enrolment import services as enrolment  # noqa: E402
from clusters.models import Cluster, ClusterEvent, ClusterStatus, Customer  # noqa: E402
from metrics.connections.config import read_config, save_source  # noqa: E402
from metrics.connections.probe import Report  # noqa: E402
from metrics.models import PullSchedule  # noqa: E402
from metrics.series.catalog import FIELD_NAMES  # noqa: E402
from metrics.series.rows import Cell, MinuteRow, SeriesInfo, SeriesKey  # noqa: E402
from metrics.series.windows import Window  # noqa: E402
from metrics.stores import get_store  # noqa: E402
from metrics.stores.writer import Batch  # noqa: E402
from opscenter.core import realtime  # noqa: E402
from opscenter.core.heartbeats import write_heartbeat  # noqa: E402
from tests.factories import (  # noqa: E402
    ClusterFactory,
    TunnelSessionFactory,
    UserFactory,
    healthy,
    public_key,
)
from tests.signs import show_life  # noqa: E402

EVIL = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>'
EVIL_NODE = 'n<b onmouseover="window.hacked=1">/"\'='
HOURS = 2
_lock = threading.Lock()
_silent: set[str] = {"quiet"}
_away: set[str] = set()  # processes that show no life, of those that this world stands for


def make() -> None:
    """Make users and clusters: one broken, one silent, one that waits, simulated and healthy
    ones."""
    UserFactory(username="operator", groups=["operators"])
    UserFactory(username="viewer")
    UserFactory(username="admin", is_superuser=True, is_staff=True)
    ada, bob = Customer.objects.create(name="Ada Bank"), Customer.objects.create(name=EVIL[:60])
    now = datetime.now(UTC)
    for name, columns in {
        "broken": {"nodes_ready": 1, "nodes_not_ready": ["node-2", EVIL_NODE], "state": "critical"},
        "alpha": {},
        "beta": {},
        "gamma": {},
        "made-up": {},
    }.items():
        ClusterFactory(
            name=name,
            customer=bob if name == "beta" else ada,
            labels={"region": "eu" if name < "b" else "us", "note": EVIL[:90]},
            simulated=name == "made-up",
            agent_version="0.1.0",
            kind="kubernetes",
            **healthy(now, **columns),
        )
    ago = now - timedelta(minutes=40)
    quiet = healthy(ago, tunnel_up=False, tunnel_reason="keepalive time-out")
    ClusterFactory(name="quiet", customer=ada, **quiet)
    services.create_cluster(name="waiting", customer=ada, actor="test")
    alpha = Cluster.objects.get(name="alpha")
    for hours in (5, 3, 0):
        ended = now - timedelta(hours=hours - 1) if hours else None
        TunnelSessionFactory(
            cluster=alpha, connected_at=now - timedelta(hours=hours, minutes=5), ended_at=ended,
            end_reason="keepalive time-out" if hours else "", client_version=EVIL[:90],
        )  # fmt: skip
    _measure(alpha, now)
    _remember(alpha, now)
    _read_from_influxdb(Cluster.objects.get(name="gamma"), now)
    labels = {"timezone": "Asia/Kolkata"}
    sourced = ClusterFactory(name="sourced", customer=ada, labels=labels, **healthy(now))
    _measure(sourced, now)
    save_source(sourced, read_config("prometheus"), actor="operator")


def _read_from_influxdb(cluster: Cluster, now: datetime) -> None:
    """Give a cluster another source, as its test found it, and gaps that are being filled."""
    fields = [
        {"kind": "node", "field": name, "series": 0 if name.startswith("etcd") else 2,
         "why": f"Heapster knows nothing of etcd {EVIL}" if name.startswith("etcd") else ""}
        for name in FIELD_NAMES["node"]
    ]  # fmt: skip
    report = Report(
        ok=True, product="InfluxDB", version="1.6.7", oldest=int(now.timestamp()) - 300 * 86_400,
        newest=int(now.timestamp()), clock_skew_ms=-1200, series={"node": 2, "pod": 31},
        fields=tuple(fields), resolutions=((60, 86_400, "1m"), (300, 28 * 86_400, "10m")),
        notes=(f"two retention policies {EVIL}",),
    )  # fmt: skip
    config = read_config(
        "influxdb", settings={"username": "root"}, secrets={"password": "hunter2-hunter2"}
    )
    save_source(cluster, config, actor="operator", probe=report.as_json())
    save_source(cluster, read_config("etcd"), actor="operator")
    end = int(now.timestamp()) // 600 * 600
    gaps = [
        Window(at, at + 600, "gap", 0, 10, 1, "tunnel_down", EVIL, None)
        for at in range(end - 36_000, end - 600, 600)
    ]
    get_store().write(cluster.pk, "agent", Batch(windows=gaps, watermark=end - 36_000, head=end))
    PullSchedule.objects.create(
        cluster=cluster, due_at=now, rejected_rows=12, rejected_at=now,
        rejected_detail="12 rows were left out because their time is far off", notes=[EVIL],
        progress={"since": end - 60, "done": 480, "runs": [[end - 60, end, 480]], "longest": None},
    )  # fmt: skip


def _remember(cluster: Cluster, now: datetime) -> None:
    """Store a history with every state, and a finding that was known late."""
    hours = [(70, 30, "ok"), (30, 26, "critical"), (26, 20, "unknown"), (20, 17, "degraded"),
             (17, 12, "pending"), (12, 6, "ok"), (6, 3, "revoked")]  # fmt: skip
    for begin, end, state in hours:
        began, ended = now - timedelta(hours=begin), now - timedelta(hours=end)
        ClusterEvent.objects.create(
            cluster=cluster, key="state", level=state, text=EVIL, began_at=began, ended_at=ended,
            began_known_at=began + timedelta(minutes=9), ended_known_at=ended, ending="changed",
        )  # fmt: skip
    ClusterEvent.objects.create(
        cluster=cluster, key=f"node:{EVIL_NODE}", level="degraded", text=f"node {EVIL} is down",
        began_at=now - timedelta(hours=20), began_at_least=True, began_known_at=now,
    )  # fmt: skip


def _measure(cluster: Cluster, now: datetime) -> None:
    """Store two hours of two nodes with a gap of ten minutes."""
    end = int(now.timestamp()) // 60 * 60
    start = end - HOURS * 3600
    gap = (start + 3600, start + 4200)
    values: dict[str, dict[str, int]] = {
        "node": {
            "cpu_mc": 900, "cpu_cap_mc": 4000, "mem_ws": 3 << 30, "mem_cap": 8 << 30,
            "fs_used": 40 << 30, "fs_cap": 100 << 30, "inodes_total": 1000, "inodes_free": 600,
            "net_rx_bps": 5000, "net_tx_bps": 3000, "load1_m": 700, "uptime_s": 9000, "pods": 2,
            "ready": 1,
        },
        "filesystem": {"used": 40 << 30, "cap": 100 << 30, "inodes_total": 9, "inodes_free": 3},
        "pod": {"cpu_mc": 200, "mem_ws": 90 << 20, "net_rx_bps": 10, "net_tx_bps": 9,
                "restarts": 1},
    }  # fmt: skip
    keys = [
        SeriesKey("node", "", "node-1"), SeriesKey("node", "", EVIL_NODE),
        SeriesKey("filesystem", "node-1", "/"), SeriesKey("pod", "shop", "cart-1"),
        SeriesKey("pod", "shop", "cart-2"), SeriesKey("pod", "=cmd|' /C", EVIL),
    ]  # fmt: skip
    rows = []
    for ts in range(start, end, 60):
        if gap[0] <= ts < gap[1]:
            continue
        for index, key in enumerate(keys):
            wave = 1 + ((ts // 60 + 7 * index) % 30) / 60
            cells = {
                name: Cell(4, int(v * wave) * 4, int(v * wave * 0.9), int(v * wave * 1.1))
                for name, v in values[key.kind].items()
            }
            rows.append(
                MinuteRow(ts, key, tuple(cells.get(name) for name in FIELD_NAMES[key.kind]))
            )
    infos = [
        SeriesInfo(key, "node-1" if key.kind == "pod" else "", {"workload": "cart"}) for key in keys
    ]
    windows = [
        Window(start, gap[0], "done", 60, 60, 1, "", "", None),
        Window(*gap, "lost", 0, 10, 3, "agent_stopped", EVIL, None),
        Window(gap[1], end, "done", 50, 50, 1, "", "", None),
    ]
    get_store().write(cluster.pk, "agent", Batch(rows, infos, windows, end, end))


def freshen() -> None:
    """Let the clusters that are not silent have been seen and measured just now.

    So have the processes that are not away: worker, beat and hub.
    """
    show_life()
    for name in _away:
        write_heartbeat(name, now=time.time() - 75)
    now = datetime.now(UTC)
    PullSchedule.objects.update(last_attempt_at=now)
    fresh = ClusterStatus.objects.exclude(cluster__name__in=_silent).exclude(data_as_of=None)
    fresh.update(tunnel_seen_at=now, data_as_of=now - timedelta(seconds=20), last_pull_ok_at=now)


def happen(command: dict[str, Any]) -> Any:
    """Do one thing."""
    match command["do"]:
        case "id":
            cluster = Cluster.objects.get(name=command["name"])
            return str(getattr(cluster, command.get("of", "pk")))
        case "break":
            _set(command["name"], nodes_ready=0, nodes_not_ready=["node-9"])
        case "silence":
            ago = datetime.now(UTC) - timedelta(minutes=9)
            _silent.add(command["name"])
            _set(command["name"], tunnel_up=False, tunnel_since=ago, tunnel_seen_at=ago,
                 data_as_of=ago, tunnel_reason="cut by the test")  # fmt: skip
        case "add":
            at = datetime.now(UTC)
            cluster = ClusterFactory(name=command["name"], **healthy(at, nodes_ready=0))
            realtime.publish(cluster.pk, "enrolment")
        case "enrol":
            enrolment.enrol(
                token=command["token"], public_key=public_key(command["token"]),
                agent_version="0.1.0", kind="host", remote_address="192.0.2.9",
            )  # fmt: skip
        case "connect":
            cluster = Cluster.objects.get(name=command["name"])
            now = datetime.now(UTC)
            TunnelSessionFactory(cluster=cluster, connected_at=now, seen_at=now)
            _set(command["name"], tunnel_up=True, tunnel_since=now, tunnel_seen_at=now)
        case "data":
            now = datetime.now(UTC)
            _set(command["name"], data_as_of=now, nodes_ready=1, nodes_total=1, pods=3,
                 last_pull_ok_at=now)  # fmt: skip
        case "measure_before":
            day = timedelta(days=1)
            _measure(Cluster.objects.get(name=command["name"]), datetime.now(UTC) - day)
        case "measure":
            cluster = Cluster.objects.get(name=command["name"])
            _measure(cluster, datetime.now(UTC))
            realtime.publish(cluster.pk, "data")
        case other:
            _stand_still(other, command)
    return None


def _stand_still(what: str, command: dict[str, Any]) -> None:
    """Let time pass over a cluster of which nobody speaks, or a process be away or back."""
    match what:
        case "forget":
            ago = datetime.now(UTC) - timedelta(minutes=9)
            _silent.add(command["name"])
            ClusterStatus.objects.filter(cluster__name=command["name"]).update(
                tunnel_seen_at=ago, data_as_of=ago, last_pull_at=ago, last_pull_ok_at=ago
            )
        case "remember":
            _silent.discard(command["name"])
        case "away":
            _away.add(command["process"])
        case "back":
            _away.discard(command["process"])
        case other:
            raise ValueError(other)
    freshen()


def _set(name: str, **columns: Any) -> None:
    cluster = Cluster.objects.get(name=name)
    with transaction.atomic():
        ClusterStatus.objects.filter(cluster=cluster).update(**columns)
    status_summary.refresh_health(cluster.pk)
    realtime.publish(cluster.pk, "health")


def _keep_fresh() -> None:
    while True:
        time.sleep(10)
        with _lock:
            freshen()


def main() -> None:
    """Make everything, then obey lines until the standard input ends."""
    call_command("migrate", verbosity=0)
    make()
    freshen()
    print("ready", flush=True)
    threading.Thread(target=_keep_fresh, daemon=True).start()
    for line in sys.stdin:
        with _lock:
            freshen()
            print(json.dumps(happen(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
