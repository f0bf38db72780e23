"""Prometheus' API over HTTP: numbers, labels, refusals, and who sees what."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from urllib.parse import urlencode

import pytest
import time_machine
from rest_framework.test import APIClient

from metrics import query
from metrics.models import CustomerRetention, RetentionClass
from metrics.prometheus_api import deadline, inventory, responses, series_reader, views
from metrics.query import STREAM
from metrics.series.catalog import CATALOG, TIERS
from metrics.series.rows import Cell, SeriesInfo, SeriesKey
from metrics.stores import StoreError, get_store
from metrics.stores.writer import Batch
from opscenter.core import large_answers
from tests.factories import api_token
from tests.metrics.stores.contract import NODE, POD, T0, coarse, row, window

pytestmark = pytest.mark.django_db
NOW = T0 + 7200
BASE = "/prometheus/api/v1/"
NODE2 = SeriesKey("node", "", "n2")
SHOP = SeriesKey("pod", "shop", 'cart"1')


@pytest.fixture
def world(cluster, foreign_cluster, store):
    """Two hours of two nodes and pods; n2 is twice n1; the other customer has the same names."""
    rows = []
    for m in range(120):
        rows += [
            row(NODE, T0 + 60 * m, cpu_mc=Cell(4, 4 * (100 + m), 90 + m, 120 + m)),
            row(NODE2, T0 + 60 * m, cpu_mc=2 * (100 + m)),
        ]
        if m != 30:
            rows.append(row(POD, T0 + 60 * m, cpu_mc=m, mem_ws=5))
        rows.append(row(SHOP, T0 + 60 * m, cpu_mc=1000 - m))
    infos = [SeriesInfo(POD, "n1"), SeriesInfo(SHOP, "n2")]
    for one in (cluster, foreign_cluster):
        get_store().write(
            one.pk, STREAM, Batch(rows, infos, [window(T0, NOW)], head=NOW, watermark=NOW)
        )
    return cluster


@pytest.fixture
def client(viewer):
    made = APIClient(raise_request_exception=False)
    made.credentials(HTTP_AUTHORIZATION=f"Bearer {api_token(viewer, read_only=True)}")
    return made


@pytest.fixture
def ask(client, world):
    def get(path, status=200, **given):
        answer = client.get(BASE + path, given)
        assert answer.status_code == status, answer.content
        body = answer.json()
        assert body["status"] == ("success" if status == 200 else "error")
        return body["data"] if status == 200 else (body["errorType"], body["error"])

    with time_machine.travel(datetime.fromtimestamp(NOW, UTC), tick=False):
        yield get


def values(data):
    """Return each series' values by its labels that tell them apart."""
    assert data["resultType"] == "matrix"
    return {
        entry["metric"].get("pod") or entry["metric"]["node"]: [
            (at, float(v)) for at, v in entry["values"]
        ]
        for entry in data["result"]
    }


def test_a_range_has_the_numbers_of_the_range_api_at_the_ends_of_its_buckets(ask, world):
    for step in (60, 600, 3600):
        data = ask("query_range", query='opscenter_node_cpu_mc{node="n1"}', start=T0 + step,
                   end=NOW, step=step)  # fmt: skip
        plain = query.range_query(world, NODE, "cpu_mc", T0, NOW, 7200 // step, now=NOW)
        assert plain.step == step
        expected = [(t + step, mean) for t, mean in zip(plain.t, plain.mean, strict=True)]
        assert values(data) == {"n1": expected}
        lows = ask("query_range", query='opscenter_node_cpu_mc_min{node="n1"}', start=T0 + step,
                   end=NOW, step=f"{step}s")  # fmt: skip
        assert [v for _, v in values(lows)["n1"]] == plain.min
        highs = ask("query_range", query='opscenter_node_cpu_mc_max{node="n1"}', start=T0 + step,
                    end=NOW, step=step)  # fmt: skip
        assert [v for _, v in values(highs)["n1"]] == plain.max


def test_a_gap_is_a_gap(ask):
    data = ask("query_range", query='opscenter_pod_cpu_mc{pod="web-1"}', start=T0 + 60 * 29,
               end=T0 + 60 * 33, step=60)  # fmt: skip
    at = [(t - T0) // 60 for t, _ in values(data)["web-1"]]
    assert at == [29, 30, 32, 33]


def test_what_was_filled_in_wider_values_is_there_at_narrow_steps(ask, world):
    filled = window(T0 - 3600, T0, filled_at=NOW, reason="tunnel_down", resolution=3600)
    hour = coarse(NODE, "1h", T0 - 3600, cpu_mc=Cell(60, 3000, None, None))
    get_store().write(world.pk, STREAM, Batch(coarse=[hour], windows=[filled]))
    data = ask("query_range", query='opscenter_node_cpu_mc{node="n1"}', start=T0, end=T0 + 120,
               step=60)  # fmt: skip
    assert values(data) == {"n1": [(T0, 50), (T0 + 60, 50), (T0 + 120, 50)]}


def test_series_carry_all_labels(ask, world):
    (entry,) = ask("query", query='opscenter_pod_cpu_mc{namespace="shop"}')["result"]
    assert entry["metric"] == {
        "__name__": "opscenter_pod_cpu_mc", "cluster": str(world.pk), "cluster_name": "north-1",
        "customer": "Northwind", "namespace": "shop", "pod": 'cart"1', "node": "n2",
    }  # fmt: skip
    assert entry["value"] == [NOW, "881"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sum(opscenter_node_cpu_mc)", {(): 657}),
        ("avg(opscenter_node_cpu_mc)", {(): 328.5}),
        ("min(opscenter_node_cpu_mc)", {(): 219}),
        ("max without (node) (opscenter_node_cpu_mc)", None),
        ("count(opscenter_node_cpu_mc)", {(): 2}),
        ("group(opscenter_node_cpu_mc)", {(): 1}),
        ("sum by (node) (opscenter_pod_cpu_mc)", {("n1",): 119, ("n2",): 881}),
        ('max by (node) (opscenter_pod_cpu_mc{pod!~"cart.*"})', {("n1",): 119}),
        ("sum(sum by (node) (opscenter_pod_cpu_mc))", {(): 1000}),
        ("sum by (nothing) (opscenter_pod_cpu_mc)", {(): 1000}),
        ("sum(opscenter_node_cpu_mc offset 1h)", {(): 477}),
        ("opscenter_cluster_cpu_mc", None),
    ],
)
def test_aggregations(ask, text, expected):
    result = ask("query", query=text)["result"]
    if expected is None:
        (entry,) = result
        assert float(entry["value"][1]) in (438, 657)
        assert entry["metric"]["cluster_name"] == "north-1"
        return
    found = {tuple(entry["metric"].values()): float(entry["value"][1]) for entry in result}
    assert found == expected


def test_top_lists_are_in_order_and_choose_anew_at_each_moment(ask):
    result = ask("query", query="topk(2, opscenter_pod_cpu_mc)")["result"]
    assert [entry["metric"]["pod"] for entry in result] == ['cart"1', "web-1"]
    result = ask("query", query="bottomk(1, opscenter_pod_cpu_mc)")["result"]
    assert [entry["metric"]["pod"] for entry in result] == ["web-1"]
    assert ask("query", query="topk(0, opscenter_pod_cpu_mc)")["result"] == []
    data = ask("query_range", query="topk by (namespace) (1, opscenter_pod_cpu_mc)",
               start=T0 + 60 * 30, end=T0 + 60 * 32, step=60)  # fmt: skip
    assert {k: len(v) for k, v in values(data).items()} == {'cart"1': 3, "web-1": 2}


def test_constants_answer_for_the_test_of_a_data_source(ask):
    assert ask("query", query="1+1", time=5) == {"resultType": "scalar", "result": [5, "2"]}
    data = ask("query_range", query="1/0", start=0, end=1, step=0.5)
    assert data["result"] == [{"metric": {}, "values": [[0, "+Inf"], [0.5, "+Inf"], [1, "+Inf"]]}]


def test_labels_values_series_and_metadata(ask, world):
    assert ask("labels") == [
        "__name__", "cluster", "cluster_name", "customer", "mountpoint", "namespace", "node", "pod",
    ]  # fmt: skip
    assert ask("labels", **{"match[]": "opscenter_cluster_pods"}) == [
        "__name__", "cluster", "cluster_name", "customer",
    ]  # fmt: skip
    assert ask("label/node/values") == ["n1", "n2"]
    assert ask("label/pod/values", **{"match[]": '{namespace=~"sh.p"}'}) == ['cart"1']
    assert ask("label/customer/values") == ["Northwind"]
    assert ask("label/cluster/values") == [str(world.pk)]
    assert ask("label/no_such/values") == []
    assert "opscenter_pod_cpu_mc_max" in ask("label/__name__/values")
    assert ask("label/pod/values", start=NOW + 1) == []
    both = ["opscenter_node_cpu_mc", '{__name__="opscenter_node_cpu_mc"}']
    found = ask("series", **{"match[]": both})
    assert [labels["node"] for labels in found] == ["n1", "n2"]
    assert len(ask("series", limit=1, **{"match[]": "opscenter_node_cpu_mc"})) == 1
    about = ask("metadata", metric="opscenter_node_mem_ws")
    assert about["opscenter_node_mem_ws"][0]["unit"] == "bytes"
    assert ask("status/buildinfo")["version"] == "2.42.0"


@pytest.mark.parametrize(
    ("path", "given", "status", "says"),
    [
        ("query", {}, 400, "empty"),
        ("query", {"query": "m{"}, 400, "query"),
        ("query", {"query": "rate(opscenter_node_cpu_mc[5m])"}, 422, r"rate\(\) is not supported"),
        ("query", {"query": "m", "time": "yesterday"}, 400, "time"),
        ("query", {"query": "m", "time": "1e300"}, 400, "time"),
        ("query", {"query": "m", "timeout": "soon"}, 400, "timeout"),
        ("query_range", {"query": "m", "start": 1, "end": 2}, 400, "step"),
        ("query_range", {"query": "m", "start": 2, "end": 1, "step": 1}, 400, "end"),
        ("query_range", {"query": "m", "start": 1, "end": 2, "step": 0}, 400, "step"),
        ("query_range", {"query": "m", "start": 1, "end": 2, "step": -1}, 400, "step"),
        ("query_range", {"query": "m", "start": 1, "end": 2, "step": "inf"}, 400, "step"),
        ("query_range", {"query": "m", "start": 0, "end": 11_000, "step": 1}, 400, "11,000 points"),
        ("query_range", {"query": "m", "start": 0, "end": 4e8, "step": "1d"}, 400, "ten years"),
        ("series", {}, 400, "no match"),
        ("series", {"match[]": "sum(m)"}, 400, "match"),
        ("series", {"match[]": ["m"] * 33}, 400, "at most"),
        ("labels", {"limit": "x"}, 400, "limit"),
        ("query", {"query": 'm{a=~"x{1000}{1000}"}'}, 400, "query"),
    ],
)  # fmt: skip
def test_refusals_have_the_shape_and_words_of_prometheus(ask, path, given, status, says):
    kind, text = ask(path, status, **given)
    assert kind == {400: "bad_data", 422: "execution"}[status]
    assert re.search(says, text)


def test_a_regular_expression_cannot_take_long(ask):
    hard = 'opscenter_pod_cpu_mc{pod=~"(a+)+$|(.*.*.*.*)*x"}'
    assert ask("query", query=hard)["result"] == []


def test_what_would_read_too_much_is_refused(ask, monkeypatch):
    monkeypatch.setattr(series_reader, "MAX_SAMPLES", 100)
    kind, text = ask("query_range", 422, query="opscenter_pod_cpu_mc", start=T0, end=NOW, step=60)
    assert kind == "execution"
    assert "narrow" in text
    monkeypatch.setattr(inventory, "MAX_SERIES", 1)
    assert "series fit" in ask("query", 422, query="opscenter_pod_cpu_mc")[1]


def test_many_steps_over_few_buckets_are_too_much_as_well(ask, monkeypatch):
    monkeypatch.setattr(series_reader, "MAX_SAMPLES", 20_000)
    given = {"query": "opscenter_node_cpu_mc", "start": NOW - 10, "end": NOW}
    assert len(ask("query_range", step=0.01, **given)["result"]) == 2
    assert "narrow" in ask("query_range", 422, step=0.001, **given)[1]


def test_what_a_label_has_is_not_bounded_by_the_number_of_series(ask, monkeypatch):
    monkeypatch.setattr(inventory, "MAX_SERIES", 20)
    everything = {"match[]": '{__name__!=""}'}
    assert "series fit" in ask("series", 422, **everything)[1]
    assert len(ask("series", limit=20, **everything)) == 20
    assert ask("label/pod/values") == ['cart"1', "web-1"]
    assert ask("label/pod/values", **everything) == ['cart"1', "web-1"]
    assert ask("label/customer/values", **everything) == ["Northwind"]
    assert "node" in ask("labels", **everything)
    assert "opscenter_pod_cpu_mc" in ask("label/__name__/values", **everything)


def test_a_label_has_the_values_of_the_series_that_fit(ask):
    def of(label, selector):
        return ask(f"label/{label}/values", **{"match[]": selector})

    assert of("node", 'opscenter_pod_cpu_mc{pod="web-1"}') == ["n1"]
    assert of("node", 'opscenter_node_cpu_mc{node!="n1"}') == ["n2"]
    assert of("pod", "opscenter_node_cpu_mc") == []
    assert of("cluster_name", "opscenter_pod_cpu_mc") == ["north-1"]
    assert of("__name__", '{__name__=~".*_cpu_mc",namespace="shop"}') == ["opscenter_pod_cpu_mc"]
    assert ask("labels", **{"match[]": ["opscenter_node_cpu_mc", '{pod="web-1"}']}) == [
        "__name__", "cluster", "cluster_name", "customer", "namespace", "node", "pod",
    ]  # fmt: skip


def test_every_pod_of_a_variable_can_be_written_out(client, ask):
    pods = "|".join([*(f"checkout-7d9f8b6c5d-{n:05}" for n in range(4000)), "web-1"])
    form = urlencode({"query": f'opscenter_pod_cpu_mc{{pod=~"({pods})"}}', "time": NOW})
    answer = client.post(BASE + "query", form, content_type="application/x-www-form-urlencoded")
    (entry,) = answer.json()["data"]["result"]
    assert entry["metric"]["pod"] == "web-1"


def test_the_time_of_a_query_ends(ask):
    kind, text = ask("query", 503, query="opscenter_pod_cpu_mc", timeout="0.000001")
    assert (kind, "longer than" in text) == ("timeout", True)


def test_a_query_waits_for_its_turn_and_not_for_ever(client, ask, viewer, monkeypatch):
    waits = partial(deadline.query_slot, wait_seconds=0.01)
    monkeypatch.setattr(views, "query_slot", waits)
    with ExitStack() as others:
        for _ in range(deadline.QUERIES.shares["user"]):
            others.enter_context(deadline.query_slot(viewer.pk))
        kind, text = ask("query", 429, query="1")
        assert (kind, "too many queries" in text) == ("unavailable", True)
        refused = client.get(BASE + "query", {"query": "1"})
        assert refused["Retry-After"] == "2"
    for _ in range(2 * deadline.QUERIES.total):
        ask("query", 400, query="m{")  # a refusal gives its turn back
    assert ask("query", query="1")["resultType"] == "scalar"


def test_one_users_queries_under_way_do_not_keep_anothers_waiting(ask, admin):
    with ExitStack() as others:
        for _ in range(deadline.QUERIES.shares["user"]):
            others.enter_context(deadline.query_slot(admin.pk))
        assert ask("query", query="1")["resultType"] == "scalar"


def test_an_answer_has_only_so_many_samples_and_bytes(ask, monkeypatch):
    given = {"query": "opscenter_node_cpu_mc", "start": T0 + 60, "end": NOW, "step": 60}
    monkeypatch.setattr(responses, "MAX_ANSWERED", 240)
    assert len(ask("query_range", **given)["result"]) == 2
    monkeypatch.setattr(responses, "MAX_ANSWERED", 239)
    assert ask("query_range", 422, **given)[0] == "execution"
    # What is given counts, not what was read for it.
    assert ask("query_range", **{**given, "query": "sum(opscenter_node_cpu_mc)"})["result"]
    monkeypatch.setattr(responses, "MAX_ANSWERED", 1000)
    monkeypatch.setattr(responses, "MAX_BYTES", 200)
    assert "bytes" in ask("query_range", 422, **given)[1]
    assert "bytes" in ask("query", 422, query="opscenter_node_cpu_mc")[1]
    assert "bytes" in ask("series", 422, **{"match[]": "opscenter_node_cpu_mc"})[1]
    monkeypatch.setattr(responses, "MAX_BYTES", 3)
    assert "bytes" in ask("labels", 422)[1]
    assert "bytes" in ask("label/pod/values", 422)[1]


@pytest.mark.parametrize("query_text", [
    "opscenter_node_cpu_mc", "opscenter_pod_cpu_mc_max", "sum(opscenter_pod_cpu_mc)",
    "topk(1, opscenter_pod_cpu_mc)", "avg by (node) (opscenter_pod_cpu_mc)",
    '{__name__=~"opscenter_(node|pod)_(cpu_mc|mem_ws).*"}', "max(opscenter_pod_cpu_mc offset 7m)",
])  # fmt: skip
@pytest.mark.parametrize("step", [60, 45, 7, 600, 1500])
def test_a_range_that_is_read_in_parts_has_the_same_numbers(ask, monkeypatch, query_text, step):
    given = {
        "query": query_text,
        "start": T0 + 13,
        "end": T0 + 13 + 150 * min(step, 48),
        "step": step,
    }
    whole = ask("query_range", **given)
    assert whole["result"]
    monkeypatch.setattr(series_reader, "READ_AT_ONCE", 30)
    monkeypatch.setattr(series_reader, "FEW_SERIES", 0)
    assert ask("query_range", **given) == whole


def test_a_part_of_a_range_reads_no_more_than_fits(ask, monkeypatch):
    read = []

    def counted(self, cluster, kind, field, tier, start, end):
        found = original(self, cluster, kind, field, tier, start, end)
        read.append(sum(len(columns.t) for columns in found.values()))
        return found

    original = type(get_store()).read_many
    monkeypatch.setattr(type(get_store()), "read_many", counted)
    monkeypatch.setattr(series_reader, "READ_AT_ONCE", 40)
    monkeypatch.setattr(series_reader, "FEW_SERIES", 0)
    ask("query_range", query="opscenter_pod_cpu_mc", start=T0, end=NOW, step=60)
    assert len(read) > 5
    assert max(read) <= 60


@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume async:Warning")
def test_a_large_answer_is_streamed_and_has_a_place_until_it_is_sent(client, world, monkeypatch):
    monkeypatch.setattr(large_answers, "LARGE_BYTES", 100)
    given = {"query": "opscenter_node_cpu_mc", "start": T0, "end": NOW, "step": 60}
    with time_machine.travel(datetime.fromtimestamp(NOW, UTC), tick=False):
        answer = client.get(BASE + "query_range", given)
    assert answer.streaming
    assert large_answers.LARGE_ANSWERS.used == 1
    body = b"".join(answer)
    assert len(body) == int(answer["Content-Length"])
    assert json.loads(body)["status"] == "success"
    answer.close()
    assert large_answers.LARGE_ANSWERS.used == 0


def test_an_unreadable_store_is_said_without_its_files(ask, monkeypatch):
    def broken(*args, **kwargs):
        raise StoreError("/secret/path is gone")

    monkeypatch.setattr(type(get_store()), "last", broken)
    kind, text = ask("query", 503, query="opscenter_node_cpu_mc")
    assert (kind, "secret" in text) == ("unavailable", False)


def test_forms_are_taken_and_unknown_endpoints_named(client, ask):
    answer = client.post(
        BASE + "query", "query=count(opscenter_node_cpu_mc)",
        content_type="application/x-www-form-urlencoded",
    )  # fmt: skip
    assert answer.json()["data"]["result"][0]["value"][1] == "2"
    kind, text = ask("rules", 404)
    assert (kind, "rules" in text) == ("not_found", True)
    assert client.put(BASE + "query").json()["status"] == "error"


def test_only_what_the_token_sees_is_there(world, viewer, stranger, operator, foreign_cluster):
    def names(user):
        client = APIClient()
        client.credentials(HTTP_AUTHORIZATION=f"Bearer {api_token(user, name=user.username)}")
        with time_machine.travel(datetime.fromtimestamp(NOW, UTC), tick=False):
            said = [client.get(BASE + path).content for path in (
                "label/cluster_name/values", "label/customer/values", "label/__name__/values",
                "label/pod/values", "labels", "query?query=sum(opscenter_node_cpu_mc)",
            )]  # fmt: skip
            chosen = client.get(BASE + "query", {
                "query": f'opscenter_node_cpu_mc{{cluster="{foreign_cluster.pk}"}}'})  # fmt: skip
        return said, len(chosen.json()["data"]["result"])

    seen, foreign = names(viewer)
    assert b'["north-1"]' in seen[0]
    assert b"Southbank" not in b"".join(seen)
    assert b'"657"' in seen[-1]
    assert foreign == 0
    seen, foreign = names(stranger)
    assert [text[-3:] for text in seen[:5]] == [b"[]}"] * 5
    seen, foreign = names(operator)
    assert b'["north-1","south-1"]' in seen[0]
    assert (b'"1314"' in seen[-1], foreign) == (True, 2)


def test_tokens_come_as_bearer_token_or_password(world, viewer):
    token = api_token(viewer)
    basic = base64.b64encode(f"grafana:{token}".encode()).decode()

    def status(header):
        return APIClient().get(BASE + "labels", HTTP_AUTHORIZATION=header)

    for good in (f"Bearer {token}", f"Token {token}", f"bearer  {token}", f"Basic {basic}"):
        assert status(good).status_code == 200
    for bad in ("Bearer x", "Basic ===", "Basic eA==", "Digest x", "", "Bearer \u00e9"):
        refused = status(bad.encode() if bad else "")
        assert refused.status_code == 401
        assert refused.json()["status"] == "error"
        assert refused["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.django_db(transaction=True)
def test_promtool_reads_the_same_numbers(live_server, viewer, world):
    longest = RetentionClass(name="Long")
    longest.limits = {kind: dict.fromkeys(TIERS, 3660) for kind in CATALOG}
    longest.save()
    CustomerRetention.objects.create(customer=world.customer, retention_class=longest)
    promtool = shutil.which("promtool")
    assert promtool, "promtool is missing: install Debian's prometheus package"
    server = live_server.url.replace("//", f"//x:{api_token(viewer)}@") + "/prometheus"

    def run(*arguments):
        done = subprocess.run(
            [promtool, "query", *arguments], capture_output=True, text=True, timeout=60, check=False
        )
        return done.stdout + done.stderr

    start, end = f"--start={T0 + 3600}", f"--end={T0 + 3720}"
    said = run("range", start, end, "--step=60s", server, 'opscenter_node_cpu_mc{node="n1"}')
    assert f"159 @[{T0 + 3600}]\n160 @[{T0 + 3660}]\n161 @[{T0 + 3720}]" in said
    said = run("instant", f"--time={NOW}", server, "topk(1, opscenter_pod_cpu_mc)")
    assert 'namespace="shop"' in said
    assert f"=> 881 @[{NOW}]" in said
    said = run("series", "--match=opscenter_node_cpu_mc", start, end, server)
    assert said.count('__name__="opscenter_node_cpu_mc"') == 2
    assert run("labels", start, end, server, "node").split() == ["n1", "n2"]
    said = run("instant", server, "rate(opscenter_pod_cpu_mc[5m])")
    assert "rate() is not supported" in said


def test_a_bug_is_told_in_the_shape_of_prometheus_too(client, world, monkeypatch):
    def broken(*args, **kwargs):
        raise ZeroDivisionError

    monkeypatch.setattr(type(get_store()), "last", broken)
    answer = client.get(BASE + "query", {"query": "opscenter_node_cpu_mc"})
    assert (answer.status_code, answer.json()["errorType"]) == (500, "internal")
