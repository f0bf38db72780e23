"""Every kind of source, and every kind of bad answer, all the way through a pull.

Each is named on the source's page and in the API, nothing of it is stored, other clusters are not
touched, and the next good answer goes on where the last one ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
import time_machine
from aiohttp import web

from clusters.models import Cluster, ClusterStatus
from metrics.connections.config import read_config, save_source
from metrics.connections.probe import title_of
from metrics.models import MetricSource
from metrics.pulling.pull import pull_cluster
from metrics.series.catalog import CATALOG, TIERS
from metrics.series.windows import STREAM
from metrics.sources.prometheus.queries import QUERIES
from metrics.stores import get_store
from tests.factories import ClusterFactory
from tests.metrics.conftest import Stand, ledger_of, status_of
from tests.metrics.sources.influxdb1.test_responses import influxdb
from tests.metrics.sources.test_etcd import page

NOW = 1_795_000_200
JSON, CSV, HTML = "application/json", "text/csv", "text/html"
LOAD = str(next(at for at, query in enumerate(QUERIES) if query.field == "load1_m"))
MANY = 20_001
SETTINGS = {"influxdb2": {"org": "o", "bucket": "b"}}

Change = Callable[[Any], object]


def minutes(start: str, end: str) -> range:
    return range(int(start), int(end), 60)


async def agent(request: web.Request, change: Change) -> tuple[str, bytes]:
    start, end = request.query["start"], request.query["end"]
    times = list(minutes(start, end))
    sevens = [7] * len(times)
    node = {
        "series": [{"name": "n1"}], "t": times, "i": [0] * len(times),
        "fields": {"cpu_mc": {"n": [1] * len(times), "s": sevens, "l": sevens, "h": sevens}},
    }  # fmt: skip
    answer = {
        "agent": {"version": "1", "kind": "host"}, "now": int(end), "oldest": NOW - 7200,
        "newest_end": int(end), "start": int(start), "end": int(end), "kinds": {"node": node},
    }  # fmt: skip
    change(answer)
    return JSON, orjson.dumps(answer)


async def prometheus(request: web.Request, change: Change) -> tuple[str, bytes]:
    form = await request.post()
    query = str(form["query"])
    if request.path == "/api/v1/query":
        clock = (
            [{"metric": {}, "value": [NOW, str(NOW + 300)]}] if query == "vector(time())" else []
        )
        data: dict[str, Any] = {"resultType": "vector", "result": clock}
    else:
        data = {"resultType": "matrix", "result": []}
        if "node_load1" in query:
            times = range(int(str(form["start"])), int(str(form["end"])) + 60, 60)
            one = {"q": LOAD, "instance": "n1"}
            data["result"].append({"metric": one, "values": [[t, "7"] for t in times]})
            change(data["result"])
    return JSON, orjson.dumps({"status": "success", "data": data})


async def influxdb1(request: web.Request, change: Change) -> tuple[str, bytes]:
    body = orjson.dumps(influxdb(str((await request.post())["q"]), change))
    return JSON, body.replace(b"[%d,1]" % (NOW - 60), b"[%d,1]" % (NOW + 240))  # its newest point


async def influxdb2(request: web.Request, change: Change) -> tuple[str, bytes]:
    body = await request.json()
    bound = {one["assignment"]["id"]["name"]: one["assignment"]["init"]["value"]
             for one in body["extern"]["body"]}  # fmt: skip
    header = ",result,table,_time,namespace,pod_name,node_name,container_name,memory_rss_bytes"
    moment = datetime.fromisoformat(bound["start"])
    times = minutes(str(int(moment.timestamp())),
                    str(int(datetime.fromisoformat(bound["stop"]).timestamp())))  # fmt: skip
    rows = [
        f",container,0,{datetime.fromtimestamp(t, UTC):%Y-%m-%dT%H:%M:%SZ},default,web,n1,main,7"
        for t in times
    ]
    lines = [header, *rows, "", ""]
    change(lines)
    return CSV, "\r\n".join(lines).encode()


GOOD = {"agent": agent, "prometheus": prometheus, "influxdb": influxdb1, "influxdb2": influxdb2}


@dataclass
class Server:
    """Answers as a good source of its kind, unless it is told otherwise."""

    kind: str
    respond: Callable[[web.Request, str, bytes], Any] | None = None
    change: Change = field(default=lambda _: None)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        asks = request.path not in {"/metrics", "/health"}
        kind, body = await GOOD[self.kind](request, self.change) if asks else (JSON, b"{ }")
        if self.respond is not None:
            return await self.respond(request, kind, body)
        return web.Response(body=body, content_type=kind)


def told(status: int, kind: str, body: bytes = b"") -> Callable[..., Any]:
    async def respond(request: web.Request, _: str, good: bytes) -> web.StreamResponse:
        return web.Response(status=status, content_type=kind, body=body or good[: len(good) // 2])

    return respond


async def breaks_off(request: web.Request, kind: str, good: bytes) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": kind, "Content-Length": str(len(good))})
    await response.prepare(request)
    await response.write(good[: len(good) // 2])
    assert request.transport is not None
    request.transport.close()
    return response


BY_HTTP = {
    "wrong credentials": (told(401, JSON, b'{"error":"no"}'), "credentials_refused"),
    "forbidden": (told(403, HTML, b"<h1>No</h1>"), "forbidden"),
    "nothing there": (told(404, HTML, b"<h1>404</h1>"), "not_found"),
    "fails inside": (told(500, JSON, b'{"error":"panic"}'), "server_error"),
    "HTML instead": (told(200, HTML, b"<html>sign in</html>"), "not_json"),
    "HTML said to be good": (told(200, JSON, b"<html>sign in</html>"), "not_json"),
    "sent elsewhere": (told(302, HTML, b"x"), "redirect"),
    "breaks off": (breaks_off, "cut_off"),
}


def at(*path: Any) -> Callable[[Any], Any]:
    """Return what follows a path into an answer."""

    def follow(answer: Any) -> Any:
        for step in path:
            answer = answer[step]
        return answer

    return follow


def put(place: Callable[[Any], Any], key: Any, value: Any) -> Change:
    return lambda answer: place(answer).__setitem__(key, value)


def cpu(value: object) -> Change:
    return put(at("kinds", "node", "fields", "cpu_mc", "s"), 0, value)


def line(number: int, old: str, new: str) -> Change:
    return lambda lines: lines.__setitem__(number, lines[number].replace(old, new))


def point(value: object) -> Change:
    return put(at(0, "values", 0), 1, value)


def row(value: object) -> Change:
    return put(at("series", 0, "values", 0), 1, value)


def twice(answer: Any) -> None:
    node = _NODES(answer)
    node |= {"t": node["t"] * 2, "i": node["i"] * 2}
    node["fields"]["cpu_mc"] = {key: column * 2 for key, column in node["fields"]["cpu_mc"].items()}


_NODES = at("kinds", "node")
_VALUES = at("series", 0, "values")
BY_CONTENT: dict[str, dict[str, tuple[Change, str]]] = {
    "agent": {
        "a float": (cpu(7.5), "bad_value"),
        "a string": (cpu("7"), "bad_value"),
        "a million series": (
            put(_NODES, "series", [{"name": f"n{n}"} for n in range(MANY)]), "too_many_series",
        ),
        "duplicate series": (put(_NODES, "series", [{"name": "n1"}] * 2), "duplicate_series"),
        "every minute twice": (twice, "duplicate_series"),
    },
    "prometheus": {
        "a string": (point("seven"), "bad_value"),
        "a number": (point(7), "bad_value"),
        "a million series": (
            lambda result: result.extend(
                [{"metric": {"q": LOAD, "instance": f"m{n}"}, "values": result[0]["values"][:1]}
                 for n in range(MANY)]
            ), "too_many_series",
        ),
        "duplicate series": (lambda result: result.append(result[0]), "duplicate_series"),
        "unsorted": (lambda result: result[0]["values"].reverse(), "unsorted"),
    },
    "influxdb": {
        "NaN": (row("NaN"), "bad_value"),
        "a string": (row("7"), "bad_value"),
        "a million series": (
            lambda result: _VALUES(result).__setitem__(
                slice(None), [[*_VALUES(result)[0][:3], f"p{n}", "n1"] for n in range(MANY)]
            ), "too_many_series",
        ),
        "duplicate series": (
            lambda result: _VALUES(result).insert(0, _VALUES(result)[0]), "duplicate_series",
        ),
        "unsorted": (lambda result: _VALUES(result).reverse(), "unsorted"),
        "no such database": (put(at(), "error", "database not found: k8s"), "database_missing"),
    },
    "influxdb2": {
        "NaN": (line(1, ",7", ",NaN"), "bad_value"),
        "a string": (line(1, ",7", ",seven"), "bad_value"),
        "a million series": (
            lambda lines: lines.__setitem__(
                slice(1, 2), [lines[1].replace("web", f"p{n}") for n in range(MANY)]
            ), "too_many_series",
        ),
        "duplicate series": (
            lambda lines: lines.insert(2, lines[1].replace("web", '"w\neb"')), "duplicate_series",
        ),
        "ends after a row": (lambda lines: lines.__delitem__(slice(-2, None)), "cut_off"),
    },
}  # fmt: skip


@pytest.fixture
def served(stand: Stand) -> Callable[[Cluster, str], Server]:
    """Serve a source of a kind as a cluster's."""

    def serve(cluster: Cluster, kind: str) -> Server:
        server = Server(kind)
        app = web.Application(client_max_size=1 << 24)
        app.router.add_route("*", "/{rest:.*}", server.answer)
        stand.serve(cluster, app)
        if kind != "agent":
            config = read_config(kind, settings=SETTINGS.get(kind, {}))
            save_source(cluster, config, actor="test")
        return server

    return serve


def everything(cluster: Cluster) -> list[Any]:
    """Return all that is stored of a cluster, by counts and checksums, and its ledger."""
    counts = [get_store().counts(cluster.pk, kind, tier, 0, 1 << 40)
              for kind in CATALOG for tier in TIERS]  # fmt: skip
    return [*counts, get_store().series(cluster.pk), get_store().last(cluster.pk, "node")]


@pytest.fixture
def world(pullable, served, client, admin) -> Iterator[Any]:
    client.force_login(admin)
    neighbour = ClusterFactory(name="south-1", current__tunnel_up=True)
    with time_machine.travel(datetime.fromtimestamp(NOW + 300, UTC), tick=True):
        yield pullable, neighbour, served, client


@pytest.mark.parametrize("kind", GOOD)
def test_every_bad_answer_is_named_and_stores_nothing(kind, world):
    cluster, neighbour, served, client = world
    server, _ = served(cluster, kind), served(neighbour, kind)
    assert pull_cluster(cluster.pk, NOW).outcome == "ok"
    before = everything(cluster)
    assert any(rows for rows, _ in before[: len(CATALOG) * len(TIERS)])
    for case, (respond, name) in BY_HTTP.items():
        server.respond = respond
        refused(case, cluster, name, client)
        if kind != "agent":
            url = f"/api/v1/clusters/{cluster.pk}/source/test"
            report = client.post(url, {}, content_type="application/json").json()
            assert (case, report["code"]) == (case, name)
            assert (report["ok"], report["title"]) == (False, title_of(name))
    server.respond = None
    for case, (change, name) in BY_CONTENT[kind].items():
        server.change = change
        refused(case, cluster, name, client)
    assert everything(cluster) == before
    assert {w.state for w in ledger_of(cluster) if w.end > NOW} <= {"gap"}
    assert pull_cluster(neighbour.pk, NOW + 240).outcome == "ok"
    assert status_of(neighbour).pull_error_code == ""

    server.change = lambda _: None
    assert pull_cluster(cluster.pk, NOW + 300).outcome == "ok"
    assert status_of(cluster).pull_error_code == ""
    assert all(w.state != "gap" for w in ledger_of(cluster) if w.start >= NOW - 600)


def refused(case: str, cluster: Cluster, name: str, client: Any) -> None:
    """Pull, and find the error under its name wherever it is shown."""
    head = get_store().position(cluster.pk, STREAM)
    # The real server's clock is that of today, not of NOW.
    ClusterStatus.objects.filter(cluster=cluster).update(clock_skew_ms=None)
    assert (case, pull_cluster(cluster.pk, NOW + 240).outcome) == (case, "failed")
    assert get_store().position(cluster.pk, STREAM) == head
    status = status_of(cluster)
    assert (case, status.pull_error_code) == (case, name), status.pull_error
    said = client.get(f"/api/v1/clusters/{cluster.pk}/source").json()["main"]
    assert (said["error_code"], said["error"]) == (name, status.pull_error)
    shown = client.get(f"/clusters/{cluster.pk}/source/").content.decode()
    assert title_of(name) in shown
    assert f">{name}<" in shown


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("agent", put(at("kinds", "node", "series", 0), "name", "n\n1\u202e")),
        ("prometheus", put(at(0, "metric"), "instance", "n\n1\u202e")),
        ("influxdb", lambda result: result["series"][0]["tags"].update(nodename="n\n1\u202e")),
        ("influxdb2", lambda lines: lines.__setitem__(
            slice(1, -2), [one.replace(",n1,", ',"n\n1\u202e",') for one in lines[1:-2]])),
    ],
)  # fmt: skip
def test_names_with_line_breaks_are_stored_without_them(kind, change, world):
    cluster, _, served, _ = world
    served(cluster, kind).change = change
    assert pull_cluster(cluster.pk, NOW).outcome == "ok"
    series = [one for one in get_store().series(cluster.pk) if one.key.kind != "cluster"]
    assert {one.node or one.key.name for one in series} == {"n1"}


ETCD_PAGES = {
    "NaN": (page(5, 6, 7, 7).replace(" 7", " NaN"), "bad_value"),
    "infinite": (page(5, 6, 7, 7).replace(" 7", " +Inf"), "bad_value"),
    "a string": (page(5, 6, 7, 7).replace(" 7", " seven"), "bad_value"),
    "duplicate series": (page(5, 6, 7, 7) * 2, "duplicate_series"),
    "a million series": (page(5, 6, 7, 7) * 200, "too_many_series"),
    "half of it": (page(5, 6, 7, 7)[:-1], "cut_off"),
}


def test_a_bad_etcd_is_named_beside_its_main_source_which_goes_on(world):
    cluster, _, served, client = world
    main = served(cluster, "agent")
    save_source(cluster, read_config("etcd"), actor="test")
    plain = "text/plain"
    pages = {case: (told(200, plain, text.encode()), name)
             for case, (text, name) in ETCD_PAGES.items()}  # fmt: skip
    for case, (respond, name) in {**BY_HTTP, **pages}.items():

        async def answer(
            request: web.Request, kind: str, good: bytes, respond: Any = respond
        ) -> web.StreamResponse:
            if request.path != "/metrics":
                return web.Response(body=good, content_type=kind)
            return await respond(request, plain, page(5, 6, 7, 7).encode())

        main.respond = answer
        assert pull_cluster(cluster.pk, NOW).outcome == "ok"
        etcd = MetricSource.objects.get(cluster=cluster, role="etcd")
        assert (case, etcd.error_code, etcd.state) == (case, name, {}), etcd.error
        said = client.get(f"/api/v1/clusters/{cluster.pk}/source").json()["etcd"]
        assert (said["error_code"], said["error"]) == (name, etcd.error)
        assert title_of(name) in client.get(f"/clusters/{cluster.pk}/source/").content.decode()
    assert title_of(name) in client.get(f"/clusters/{cluster.pk}/?tab=data").content.decode()
    for field_name in ("etcd_fsync_us", "etcd_leader_changes"):
        assert not get_store().read_many(cluster.pk, "node", field_name, "1m", 0, NOW)

    respond = told(200, plain, page(5, 6, 7, 7).encode())

    async def well(request: web.Request, kind: str, good: bytes) -> web.StreamResponse:
        if request.path != "/metrics":
            return web.Response(body=good, content_type=kind)
        return await respond(request, plain, good)

    main.respond = well
    assert pull_cluster(cluster.pk, NOW + 240).outcome == "ok"
    etcd.refresh_from_db()
    assert (etcd.error_code, etcd.error) == ("", "")
