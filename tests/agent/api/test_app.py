import asyncio
import gzip
import json
import socket
from pathlib import Path

import pytest
from aiohttp import ClientSession, web
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.api.app import AgentFacts, make_app
from agent.api.range_answer import range_answer
from agent.catalog import FIELDS
from agent.clock import Stretch
from agent.sampler import CollectorStatus
from agent.samples import make_sample
from agent.spool.spool import Spool, SpoolFile
from metrics.series.rows import Cell
from metrics.sources.agent.responses import parse_answer
from tests.examples import examples

T0 = 1_800_000_000 // 60 * 60
NOW = T0 + 600


def node(value, name="n1"):
    return make_sample("node", name, {"cpu_mc": value, "ready": 1}, attrs={"kernel": "6.1"})


def pod(value, name):
    return make_sample("pod", name, {"cpu_mc": value}, ns="default", node="n1")


@pytest.fixture
async def spool(tmp_path: Path):
    spool = await Spool.open(tmp_path / "spool.sqlite3")
    yield spool
    await spool.close()


@pytest.fixture
async def url(starts_servers, spool):
    facts = AgentFacts(
        kind="host",
        hostname="box",
        instance="ab12",
        collectors=lambda: {"host": CollectorStatus(True, "", T0 + 1.5, {"n1": "no answer"})},
        services=["agent", "etcd"],
    )
    runner = web.AppRunner(make_app(spool, facts, now=lambda: NOW))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def get(url, path, status=200, **kwargs):
    async with ClientSession() as session, session.get(url + path, **kwargs) as response:
        assert response.status == status, await response.text()
        assert response.content_type == "application/json"
        return await response.json()


async def test_a_range_holds_every_cell_of_its_closed_minutes(spool, url):
    for second, value in ((0, 100), (15, 50), (60, 7)):
        await spool.add(T0 + second, [node(value), pod(value * 2, "web-0")])
    answer = await get(url, f"/v1/range?start={T0}&end={T0 + 120}")
    assert answer["agent"] == {
        "version": "0.1.0",
        "instance": "ab12",
        "kind": "host",
        "hostname": "box",
    }
    assert (answer["start"], answer["end"], answer["now"]) == (T0, T0 + 120, NOW)
    assert (answer["oldest"], answer["newest_end"]) == (T0, T0 + 120)
    assert list(answer["kinds"]) == ["node", "filesystem", "pod"]
    nodes, pods = answer["kinds"]["node"], answer["kinds"]["pod"]
    assert nodes["series"] == [{"ns": "", "name": "n1", "node": "", "attrs": {"kernel": "6.1"}}]
    assert (nodes["t"], nodes["i"]) == ([T0, T0 + 60], [0, 0])
    assert list(nodes["fields"]) == list(FIELDS["node"])
    assert nodes["fields"]["cpu_mc"] == {"n": [2, 1], "s": [150, 7], "l": [50, 7], "h": [100, 7]}
    missing = {"n": [None, None], "s": [None, None], "l": [None, None], "h": [None, None]}
    assert nodes["fields"]["mem_ws"] == missing
    assert pods["series"] == [{"ns": "default", "name": "web-0", "node": "n1", "attrs": {}}]
    assert pods["fields"]["cpu_mc"]["s"] == [300, 14]
    assert answer["kinds"]["filesystem"]["t"] == []


async def test_a_range_says_how_its_collector_is(spool, url):
    await spool.add(T0, [node(1)])
    answer = await get(url, f"/v1/range?start={T0}&end={T0 + 120}")
    assert answer["collector"] == {
        "name": "host",
        "ok": True,
        "error": "",
        "last_at": T0 + 1.5,
        "problems": {"n1": "no answer"},
        "failed": [],
        "earlier": [],
        "clock_steps": [],
    }
    parsed = parse_answer(answer, T0, T0 + 120, now=NOW)
    assert parsed.collector is not None
    assert parsed.collector.problems == {"n1": "no answer"}


async def test_a_range_names_the_minutes_in_which_nothing_was_seen(spool, url):
    at_first, later = Stretch("b", T0), Stretch("b", T0 + 600)
    await spool.add(T0, [node(1)], stretch=at_first)
    for second, error in ((60, "HTTP 503"), (75, "HTTP 503"), (120, "HTTP 503"), (180, "403")):
        await spool.add(T0 + second, [], stretch=at_first, error=error)
    await spool.add(T0 + 240, [node(1)], stretch=at_first)
    await spool.add(T0 + 300 + 600, [node(1)], stretch=later)
    answer = await get(url, f"/v1/range?start={T0}&end={T0 + 600}")
    assert answer["oldest"] == T0
    assert answer["kinds"]["node"]["t"] == [T0, T0 + 240]
    assert answer["collector"]["failed"] == [
        [T0 + 60, T0 + 180, "HTTP 503"],
        [T0 + 180, T0 + 240, "403"],
    ]
    assert answer["collector"]["clock_steps"] == [[T0 + 300, T0 + 300, T0 + 900]]
    parsed = parse_answer(answer, T0, T0 + 600, now=NOW)
    assert parsed.failed == {T0 + 60: "HTTP 503", T0 + 120: "HTTP 503", T0 + 180: "403"}
    assert parsed.minutes_alive == {T0, T0 + 240}


async def test_a_clock_that_was_centuries_off_once_spoils_no_answer(spool, url):
    for shift in (T0, T0 + 4e10, T0 + 30):
        await spool.add(shift + 60, [node(1)], stretch=Stretch("b", shift))
    answer = await get(url, f"/v1/range?start={T0}&end={T0 + 540}")
    assert answer["collector"]["clock_steps"] == [[T0 + 60, T0 + 60, 4_000_000_000]]
    parse_answer(answer, T0, T0 + 540, now=NOW)


async def test_an_open_minute_is_not_served_and_the_end_says_so(spool, url):
    await spool.add(NOW, [node(1)])
    answer = await get(url, f"/v1/range?start={NOW - 120}&end={NOW + 60}")
    # At NOW the minute before is over for 0 s only: its last sample may still be on its way.
    assert (answer["start"], answer["end"]) == (NOW - 120, NOW - 60)
    assert answer["kinds"]["node"]["t"] == []
    future = await get(url, f"/v1/range?start={NOW + 600}&end={NOW + 1200}")
    assert (future["start"], future["end"]) == (NOW + 600, NOW + 600)


async def test_kinds_can_be_chosen(spool, url):
    await spool.add(T0, [node(1), pod(1, "a")])
    answer = await get(url, f"/v1/range?start={T0}&end={T0 + 60}&kinds=pod,node")
    assert list(answer["kinds"]) == ["node", "pod"]


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("", "start is missing"),
        (f"start={T0}", "end is missing"),
        (f"start={T0}&end={T0}", "start must be before end"),
        (f"start={T0 + 60}&end={T0}", "start must be before end"),
        (f"start={T0 + 1}&end={T0 + 60}", "start of a minute"),
        (f"start=-60&end={T0}", "whole seconds"),
        (f"start={T0}.0&end={T0 + 60}", "whole seconds"),
        (f"start=%D9%A0&end={T0}", "whole seconds"),
        (f"start={T0}&end={'9' * 40}", "whole seconds"),
        (f"start={T0}&end=9999999999960", "start of a minute"),
        (f"start={T0}&end={T0 + 60}&kinds=", "kinds must be"),
        (f"start={T0}&end={T0 + 60}&kinds=node,node", "kinds must be"),
        (f"start={T0}&end={T0 + 60}&kinds=cluster", "kinds must be"),
        (f"start={T0}&start={T0}&end={T0 + 60}", "more than once"),
        (f"start={T0}&end={T0 + 60}&limit=3", "unknown parameter"),
    ],
)
async def test_a_bad_parameter_is_refused_with_its_reason(url, query, says):
    answer = await get(url, f"/v1/range?{query}", status=400)
    assert answer["error"]["code"] == "bad_request"
    assert says in answer["error"]["message"]


async def test_only_get_without_a_body_is_answered(url):
    path = f"{url}/v1/range?start={T0}&end={T0 + 60}"
    async with ClientSession() as session:
        for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH"):
            async with session.request(method, path) as response:
                assert response.status == 405
                assert (await response.json())["error"]["code"] == "method_not_allowed"
        async with session.head(path) as response:
            assert response.status == 405
        async with session.get(path, data=b"x" * 10) as response:
            assert response.status == 413
        async with session.get(f"{url}/v1/elsewhere") as response:
            assert response.status == 404
            assert (await response.json())["error"]["code"] == "not_found"


async def test_answers_are_compressed_if_the_client_accepts_it(spool, url):
    await spool.add(T0, [pod(1, f"p{n}") for n in range(100)])
    path = f"/v1/range?start={T0}&end={T0 + 60}"
    plain = await get(url, path, headers={"Accept-Encoding": "identity"})
    async with (
        ClientSession(auto_decompress=False) as session,
        session.get(url + path, headers={"Accept-Encoding": "br, gzip;q=0.5"}) as response,
    ):
        assert response.headers["Content-Encoding"] == "gzip"
        assert json.loads(gzip.decompress(await response.read())) == plain
    async with (
        ClientSession(auto_decompress=False) as session,
        session.get(url + path, headers={"Accept-Encoding": "gzip;q=0"}) as response,
    ):
        assert "Content-Encoding" not in response.headers


async def test_info_describes_the_agents_state(spool, url):
    await spool.add(T0, [node(1)])
    info = await get(url, "/v1/info")
    assert info.pop("spool_bytes") > 0
    assert info == {
        "agent": {"version": "0.1.0", "instance": "ab12", "kind": "host", "hostname": "box"},
        "now": NOW,
        "oldest": T0,
        "newest_end": T0 + 60,
        "spool_error": "",
        "readings_refused": 0,
        "sample_seconds": 15,
        "collectors": {"host": {"ok": True, "error": "", "last_at": T0 + 1.5}},
        "services": ["agent", "etcd"],
    }


async def test_too_many_requests_are_refused_while_the_loop_stays_free(spool, url):
    release = __import__("threading").Event()
    blocked = asyncio.create_task(spool.call(lambda _: release.wait(20)))
    async with ClientSession() as session:
        waiting = [asyncio.create_task(session.get(f"{url}/v1/info")) for _ in range(4)]
        await asyncio.sleep(0.2)
        async with session.get(f"{url}/v1/info") as response:
            assert response.status == 503
            assert response.headers["Retry-After"] == "1"
        release.set()
        await blocked
        for answer in await asyncio.gather(*waiting):
            assert answer.status == 200
            answer.release()
        async with session.get(f"{url}/v1/info") as response:
            assert response.status == 200


async def test_a_client_that_goes_away_frees_its_place(spool, url):
    host, port = url.removeprefix("http://").split(":")
    for _ in range(12):
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(b"GET /v1/info HTTP/1.1\r\nHost: agent\r\n\r\n")
    await asyncio.sleep(0.2)
    await get(url, "/v1/info")


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:9195", "127.0.0.1", "127.0.0.1:80", "[::1]:9195", "agent",
     "agent:9099", "agent.7f0f9a53-9d2f-4b6d-8d58-0f8d2d6a3c11:9099"],
)  # fmt: skip
async def test_this_machine_and_the_tunnel_are_answered(url, host):
    await get(url, "/v1/info", headers={"Host": host})


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:9195", "localhost.evil.example", "127.0.0.1.nip.example",
     "agent.evil.example", "other", "10.0.0.1", "[fd00::1]", "localhost:9195@evil", ""],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/v1/info", f"/v1/range?start={T0}&end={T0 + 60}", "/nothing"])
async def test_a_name_that_somebody_else_binds_to_loopback_is_refused(url, host, path):
    answer = await get(url, path, 421, headers={"Host": host})
    assert answer["error"]["code"] == "other_host"


@pytest.mark.parametrize("origin", ["http://evil.example", "http://localhost", "null"])
async def test_no_page_of_a_browser_is_answered(url, origin):
    answer = await get(url, "/v1/info", 403, headers={"Origin": origin})
    assert answer["error"]["code"] == "origin_refused"


async def test_two_hosts_or_none_are_refused(url):
    host, port = url.removeprefix("http://").split(":")
    for head in (b"", b"Host: localhost\r\nHost: evil.example\r\n"):
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET /v1/info HTTP/1.0\r\n" + head + b"\r\n")
        status = await reader.readline()
        assert status.split()[1] in (b"400", b"421")
        writer.close()


def fill(spool: SpoolFile, minutes: int, pods: int) -> None:
    for minute in range(minutes):
        rows = [pod(n * 1000 + minute, f"p{n}") for n in range(pods)]
        spool.add(T0 + 60 * minute, [node(minute), *rows])


@settings(max_examples=examples(25), deadline=None)
@given(
    minutes=st.integers(1, 30),
    pods=st.integers(0, 20),
    limit=st.integers(1, 40_000),
)
def test_asking_again_from_the_end_gets_every_minute_once(tmp_path_factory, minutes, pods, limit):
    spool = SpoolFile(
        tmp_path_factory.mktemp("s") / "s.sqlite3", max_bytes=2**26, max_seconds=7 * 86400
    )
    fill(spool, minutes, pods)
    start, end = T0 - 120, T0 + 60 * minutes
    got: dict[str, list[tuple[int, str]]] = {"node": [], "pod": []}
    while start < end:
        answer = json.loads(
            range_answer(
                spool,
                start=start,
                end=end,
                kinds=["node", "pod"],
                now=T0 + 10**6,
                agent={},
                max_bytes=limit,
            )
        )
        assert answer["start"] == start < answer["end"] <= end
        for kind, table in answer["kinds"].items():
            assert table["t"] == sorted(table["t"])
            names = [table["series"][i]["name"] for i in table["i"]]
            got[kind].extend(zip(table["t"], names, strict=True))
            assert all(start <= t < answer["end"] for t in table["t"])
        start = answer["end"]
    spool.close()
    times = [T0 + 60 * minute for minute in range(minutes)]
    assert got["node"] == [(t, "n1") for t in times]
    assert sorted(got["pod"]) == sorted((t, f"p{n}") for t in times for n in range(pods))


async def test_the_hub_takes_what_the_agent_answers(spool, url):
    for second, value in ((0, 100), (15, 50), (60, 7)):
        await spool.add(T0 + second, [node(value), pod(value * 2, "web-0")])
    await spool.add(T0 + 120, [make_sample("node", "n1", {})])
    raw = await get(url, f"/v1/range?start={T0}&end={T0 + 240}")
    answer = parse_answer(raw, T0, T0 + 240, now=NOW)
    rows = sorted(answer.rows, key=lambda row: (row.ts, row.key.kind))
    assert sorted(answer.minutes_alive) == [T0, T0 + 60, T0 + 120]
    assert [(row.ts, row.key.kind, row.cells[0]) for row in rows] == [
        (T0, "node", Cell(2, 150, 50, 100)),
        (T0, "pod", Cell(2, 300, 100, 200)),
        (T0 + 60, "node", Cell(1, 7, 7, 7)),
        (T0 + 60, "pod", Cell(1, 14, 14, 14)),
        (T0 + 120, "node", None),
    ]


def test_a_full_answer_stays_near_four_megabytes(tmp_path):
    spool = SpoolFile(tmp_path / "s.sqlite3", max_bytes=2**28, max_seconds=7 * 86400)
    for minute in range(80):
        rows = [
            make_sample(
                "pod",
                f"a-rather-long-deployment-name-{n:04d}-abcde",
                dict.fromkeys(FIELDS["pod"], 2**40 + 997 * n + minute),
                ns="a-namespace",
                node="n1",
                attrs={"image": "registry.example/team/app:1.2.3", "phase": "Running"},
            )
            for n in range(300)
        ]
        spool.add(T0 + 60 * minute, [node(minute), *rows])
    body = range_answer(
        spool,
        start=T0,
        end=T0 + 60 * 80,
        kinds=["node", "filesystem", "pod"],
        now=T0 + 10**6,
        agent={},
    )
    assert 3.9 * 2**20 < len(body) < 4.3 * 2**20
    assert json.loads(body)["end"] < T0 + 60 * 80
