"""Clients that answer like a good server, save for some parts that a test has spoiled.

No network: one test asks some thousand times.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from random import Random
from typing import Any

from metrics.sources.influxdb2.queries import EDGES, STREAMS
from metrics.sources.prometheus.queries import QUERIES, TAG

NOW = 1_795_000_200  # 2026-11-18 11:10 UTC
START, END = NOW - 1200, NOW - 600

JUNK: tuple[Any, ...] = (
    None, True, -1, 0, 7, 61, 1 << 39, (1 << 40) - 64, 1 << 62, -(1 << 62), 1e300, -1e300, 0.5,
    "", "x", "\x00", "a\nb", "\u202e", "1" * 30 + "!", "9" * 5000, "NaN", "+Inf", "-Inf", "1e300",
    "-5", "2", "x" * 300, [], [[]], [None], ["x", "y"], {}, {"x": 1}, [[1, "2"], [1, "2"]],
)  # fmt: skip

Answers = Callable[[str, Mapping[str, str], Any], Any]
"""(path, form or parameters, body) -> JSON value or text."""


class SpoiledClient:
    """A :class:`metrics.sources.base.HttpClient` that spoils one of its answers.

    Args:
        answers: what a good server says.
        random: chooses which answer is spoiled, and how.
        parts: of that answer are spoiled at most.
    """

    def __init__(self, answers: Answers, random: Random, *, parts: int = 2) -> None:
        self._answers, self._random, self._parts = answers, random, parts
        self._good_ones = random.choice((0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9))
        self.server_date: float | None = float(NOW)

    async def get_json(self, path, params=None, *, before_parsing=lambda: None):
        return self._answer(path, params or {}, None, before_parsing)

    async def post_form_json(self, path, form, *, before_parsing=lambda: None):
        return self._answer(path, form, None, before_parsing)

    async def get_text(self, path, params=None, *, accept="text/plain"):
        del accept
        return str(self._answer(path, params or {}, None))

    async def post_text(self, path, body, params=None, *, accept="text/plain"):
        del accept
        return str(self._answer(path, params or {}, body))

    def _answer(self, path, form, body, before=lambda: None):
        before()
        good = copy.deepcopy(self._answers(path, form, body))
        self._good_ones -= 1
        for _ in range(self._random.randint(0, self._parts) if self._good_ones == -1 else 0):
            spoil = spoiled_text if isinstance(good, str) else spoiled
            good = spoil(good, self._random)
        return good


def spoiled(value: Any, random: Random) -> Any:
    """Return a JSON value with one part of it replaced, gone, or there twice."""
    holders = [(value, key) for value in _containers(value) for key in _keys(value)]
    if not holders or random.random() < 0.02:
        return copy.deepcopy(random.choice(JUNK))
    holder, key = random.choice(holders)
    match random.randint(0, 5):
        case 0:
            del holder[key]
        case 1 if isinstance(holder, list):
            holder.insert(key, copy.deepcopy(holder[key]))
        case 2 if isinstance(holder, list):
            holder.reverse()
        case _:
            holder[key] = copy.deepcopy(random.choice(JUNK))
    return value


def spoiled_text(text: str, random: Random) -> str:
    """Return a text with one word of it replaced, gone, or there twice."""
    words = re.split(r"([\s,{}=\"]+)", text)
    at = random.randrange(len(words))
    words[at] = random.choice(("", words[at] * 2, str(random.choice(JUNK))))
    return "".join(words)


def _containers(value: Any) -> list[Any]:
    found, waiting = [], [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, (dict, list)):
            found.append(one)
            waiting += one.values() if isinstance(one, dict) else one
    return found


def _keys(value: Any) -> list[Any]:
    return list(value) if isinstance(value, dict) else list(range(len(value)))


def agent(path: str, params: Mapping[str, str], body: Any) -> Any:
    """Answer as an agent with two nodes, a filesystem and a pod."""
    del path, body
    start, end = int(params["start"]), int(params["end"])
    t = [start, start, start + 60]

    def table(ns: str, *names: str, field: str) -> dict[str, Any]:
        count = 3 if len(names) > 1 else 1
        column = {"n": [4, 4, 1], "s": [400, 8, 7], "l": [50, 2, 7], "h": [150, 2, 7]}
        return {
            "series": [{"ns": ns, "name": n, "node": "n1", "attrs": {"roles": "x"}} for n in names],
            "t": t[:count], "i": [0, 1, 0][:count],
            "fields": {field: {key: values[:count] for key, values in column.items()}},
        }  # fmt: skip

    return {
        "agent": {"version": "0.1.0", "instance": "ab", "kind": "host", "hostname": "h"},
        "now": NOW, "oldest": start - 60, "newest_end": end, "start": start, "end": end,
        "kinds": {
            "node": table("", "n1", "n2", field="cpu_mc"),
            "filesystem": table("n1", "/", field="used"),
            "pod": table("default", "web", field="cpu_mc"),
        },
    }  # fmt: skip


def prometheus(path: str, form: Mapping[str, str], body: Any) -> Any:
    """Answer as a Prometheus that scrapes one node of Kubernetes."""
    del body
    if path == "/metrics":
        return (
            'prometheus_build_info{branch="HEAD",version="2.42.0"} 1\n'
            'vm_app_version{version="victoria-metrics-v1.79.5",short_version="v1.79.5"} 1\n'
            'flag{name="retentionPeriod", value="1y2w"} 1\n'
        )
    if path.startswith("/api/v1/status/"):
        about = {"version": "2.42.0", "storageRetention": "15d or 10GiB",
                 "storage.tsdb.retention.time": "15d"}  # fmt: skip
        return {"status": "success", "data": about}
    query = form["query"]
    if path == "/api/v1/query":
        result = [
            {"metric": labels, "value": [NOW, str(value)]} for labels, value in _vector(query)
        ]
        return _data("vector", result)
    times = range(int(form["start"]), int(form["end"]) + 1, 60)
    result = [{"metric": {TAG: "up"}, "values": [[t, "3"] for t in times]}]
    for tag in re.findall(rf'"{TAG}","(\d+)"', query):
        labels = {TAG: tag, **_LABELS[QUERIES[int(tag)].kind]}
        result.append({"metric": labels, "values": [[t, str(t % 97)] for t in times]})
    return _data("matrix", result)


_LABELS: Mapping[str, Mapping[str, str]] = {
    "node": {"node": "n1", "instance": "10.0.0.1:9100"},
    "pod": {"namespace": "default", "pod": "web"},
    "filesystem": {"instance": "10.0.0.1:9100", "mountpoint": "/", "device": "/dev/sda",
                   "fstype": "ext4"},
}  # fmt: skip


def _data(kind: str, result: Any) -> Any:
    return {"status": "success", "data": {"resultType": kind, "result": result}}


def _vector(query: str) -> list[tuple[dict[str, str], float]]:
    if query == "vector(time())":
        return [({}, NOW)]
    if "kube_node_info" in query and TAG in query:
        return [
            ({TAG: "node", "node": "n1", "internal_ip": "10.0.0.1", "os_image": "Debian"}, 2),
            ({TAG: "role", "node": "n1", "role": "master"}, 1),
            ({TAG: "uname", "instance": "10.0.0.1:9100", "nodename": "n1", "release": "6.1"}, 1),
            ({TAG: "kubelet", "instance": "10.0.0.1:10250", "node": "n1"}, 1),
            ({TAG: "pod", "namespace": "default", "pod": "web", "node": "n1",
              "host_ip": "10.0.0.1", "created_by_kind": "R", "created_by_name": "w"}, 2),
        ]  # fmt: skip
    if "timestamp(up)" in query:
        return [({}, NOW - 7200)]
    if "__name__" in query:
        return [({"__name__": "node_load1"}, 1)]
    return [({TAG: name}, 2) for name in ("up", "pod", "pod_name", "ksm1", "replica")]


def influxdb(path: str, form: Mapping[str, str], body: Any) -> Any:
    """Answer as an InfluxDB 1.x with a node, a filesystem and a pod."""
    del path, body
    results = [_statement(number, text) for number, text in enumerate(form["q"].split(";"))]
    return {"results": results}


def _statement(number: int, text: str) -> dict[str, Any]:
    def series(columns: list[str], *rows: list[Any], **more: Any) -> dict[str, Any]:
        one = {"name": "m", "columns": columns, "values": list(rows), **more}
        return {"statement_id": number, "series": [one]}

    if text.startswith("SHOW RETENTION"):
        return series(
            ["name", "duration", "default"], ["default", "24h0m0s", True],
            ["medium", "672h0m0s", False], ["long", "8736h0m0s", False],
        )  # fmt: skip
    if text.startswith("SHOW MEASUREMENTS"):
        return series(["name"], ["cpu/usage_rate"], ["system"])
    if text.startswith("SHOW DIAGNOSTICS"):
        return series(["Branch", "Version"], ["x", "1.6.7"]) | {
            "series": [{"name": "build", "columns": ["Version"], "values": [["1.6.7"]]}]
        }
    if "LIMIT 1" in text:
        back = 40 * 86_400 if "/long" in text else 20 * 86_400 if "/medium" in text else 7200
        return series(["time", "value"], [NOW - (back if "ASC" in text else 60), 1])
    found = re.search(r"time >=? (\d+)s AND time <=? (\d+)s", text)
    assert found
    step = 3600 if "/long" in text else 300 if "/medium" in text else 60
    low = int(found[1]) + (step if "time > " in text else 0)
    times = range(low - low % step, int(found[2]) + (1 if "time > " in text else 0), step)
    grouped = " GROUP BY " in text
    tags = text.partition(" GROUP BY ")[2].split(", ") if grouped else []
    columns = text[7 : text.index(" FROM")].split(", ")
    names = [name.strip('"') for name in columns]
    values = {"nodename": "n1", "resource_id": "/dev/sda", "namespace_name": "default",
              "pod_name": "web", "host": "n1", "node": "n1"}  # fmt: skip
    rows = [[t, *(values.get(name, 5) for name in names)] for t in times if t >= int(found[1])]
    more = {"tags": {tag.strip('"'): values[tag.strip('"')] for tag in tags}} if grouped else {}
    return series(["time", *names], *rows, **more)


def influxdb2(path: str, form: Mapping[str, str], body: Any) -> Any:
    """Answer as an InfluxDB 2.x that one Telegraf writes to."""
    del form
    if path == "/health":
        return {"name": "influxdb", "version": "v2.9.1"}
    query = body["query"]
    blocks = []
    if "schema.measurements" in query:
        blocks.append([",result,table,_value", ",_result,0,kubernetes_node"])
    if "buckets()" in query:
        blocks.append([",result,table,name,retentionPeriod", ",bucket,0,b,259200000000000"])
        for name in EDGES:
            for which, at in (("first", "2026-11-18T09:00:00Z"), ("last", "2026-11-18T11:09:00Z")):
                blocks.append([",result,table,_time", f",{which} {name},0,{at}"])
    for stream in STREAMS:
        if f'yield(name: "{stream.name}")' in query:
            columns = ["", "result", "table", "_time", *stream.tags, *stream.fields]
            rows = _points(stream.name, stream.tags, stream.fields, _minutes_of(body))
            blocks.append([",".join(columns), *rows])
    return "".join("\r\n".join([*block, "", ""]) for block in blocks)


def _minutes_of(body: Any) -> list[str]:
    """Return the first four minutes of what a query asks for, as text."""
    options = {one["assignment"]["id"]["name"]: one["assignment"]["init"]["value"]
               for one in body["extern"]["body"]}  # fmt: skip
    start, stop = (datetime.fromisoformat(options[name]) for name in ("start", "stop"))
    minutes = [start + timedelta(minutes=at) for at in range(4)]
    return [at.strftime("%Y-%m-%dT%H:%M:%SZ") for at in minutes if at < stop]


def _points(
    name: str, tags: tuple[str, ...], fields: tuple[str, ...], minutes: list[str]
) -> list[str]:
    names = {
        "node_name": "n1", "host": "n1", "namespace": "default", "pod_name": "web",
        "container_name": "main", "path": "/", "device": "sda", "fstype": "ext4", "mode": "rw",
        "interface": "eth0",
    }  # fmt: skip
    return [
        ",".join(["", name, "0", minute, *(names[tag] for tag in tags),
                  *(str(7 + at) for _ in fields)])
        for at, minute in enumerate(minutes)
    ]  # fmt: skip


def etcd(path: str, form: Mapping[str, str], body: Any) -> Any:
    """Answer as an etcd."""
    del path, form, body
    name = "etcd_disk_wal_fsync_duration_seconds_bucket"
    buckets = "".join(f'{name}{{le="{le}"}} {count}\n' for le, count in
                      (("0.001", 10), ("0.002", 50), ("8.192", 60), ("+Inf", 60)))  # fmt: skip
    return f"{buckets}etcd_server_leader_changes_seen_total 3\n"
