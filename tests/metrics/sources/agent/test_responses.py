"""The agent source: what a good answer becomes, and what is refused in a bad one."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics.series.catalog import FIELD_NAMES
from metrics.series.rows import Cell, MinuteRow, SeriesKey
from metrics.series.source_answer import CollectorState, SourceAnswer
from metrics.sources.agent import responses, source
from metrics.sources.agent.responses import parse_answer
from metrics.sources.agent.source import AgentSource
from metrics.sources.parse_concurrency import ParseSlot
from opscenter.core.errors import BadResponseError
from tests.examples import examples
from tests.fleet.answers import SimulatedAgent
from tests.fleet.world import World

START = 1_800_000_000
END = START + 600
NOW = END + 30.5


def cell_lists(*cells: tuple[int, int, int, int] | None) -> dict[str, list[int | None]]:
    return {key: [c and c[at] for c in cells] for at, key in enumerate("nslh")}


def answer() -> dict[str, Any]:
    """Return a small good answer: two nodes over two minutes, one pod, one filesystem."""
    return {
        "agent": {"version": "0.1.0", "instance": "ab", "kind": "host", "hostname": "h"},
        "now": NOW,
        "oldest": START - 60,
        "newest_end": END,
        "start": START,
        "end": END,
        "collector": {
            "name": "host",
            "ok": False,
            "error": "no way in",
            "last_at": START + 75.5,
            "problems": {"n2": "no answer within 6 s"},
            "failed": [[START + 120, START + 240, "no way in"], [START + 300, END, "HTTP 503"]],
            "clock_steps": [[START + 240, START + 250.0, START + 310.5]],
            "earlier": [[START + 60, START + 120]],
        },
        "kinds": {
            "node": {
                "series": [
                    {"ns": "", "name": "n1", "node": "", "attrs": {"role": "master"}},
                    {"ns": "", "name": "n2", "node": "", "attrs": {}},
                ],
                "t": [START, START, START + 60],
                "i": [0, 1, 0],
                "fields": {
                    "cpu_mc": cell_lists((4, 400, 50, 150), (4, 8, 2, 2), (3, 300, 100, 100)),
                    "mem_ws": cell_lists((4, 4096, 1024, 1024), None, (1, 7, 7, 7)),
                },
            },
            "filesystem": {
                "series": [{"ns": "n1", "name": "/", "node": "n1", "attrs": {}}],
                "t": [START],
                "i": [0],
                "fields": {"used": cell_lists((1, 5, 5, 5)), "cap": cell_lists((1, 9, 9, 9))},
            },
            "pod": {
                "series": [{"ns": "default", "name": "web-1", "node": "n1", "attrs": {}}],
                "t": [START],
                "i": [0],
                "fields": {"cpu_mc": cell_lists((4, 10, 1, 4))},
            },
        },
    }


def parse(raw: object) -> source.SourceAnswer:
    return parse_answer(raw, START, END, now=NOW)


def test_a_good_answer_becomes_rows_in_catalogue_order():
    got = parse(answer())
    node = FIELD_NAMES["node"]
    first = got.rows[0]
    assert first == MinuteRow(
        START, SeriesKey("node", "", "n1"),
        tuple(
            {"cpu_mc": Cell(4, 400, 50, 150), "mem_ws": Cell(4, 4096, 1024, 1024)}.get(name)
            for name in node
        ),
    )  # fmt: skip
    assert [row.ts for row in got.rows] == [START] * 4 + [START + 60]
    second = next(row for row in got.rows if row.key.name == "n2")
    assert second.cells[node.index("mem_ws")] is None
    assert got.minutes_alive == {START, START + 60}
    assert (got.oldest, got.newest_end, got.end) == (START - 60, END, END)
    assert (got.agent_version, got.kind, got.ignored) == ("0.1.0", "host", 0)
    assert {info.key.name: dict(info.attrs) for info in got.infos}["n1"] == {"role": "master"}


def test_what_the_agent_knows_about_its_own_sight_arrives():
    got = parse(answer())
    assert got.collector == CollectorState(
        ok=False, error="no way in", last_at=START + 75.5, problems={"n2": "no answer within 6 s"}
    )
    assert got.failed == {
        **dict.fromkeys([START + 120, START + 180], "no way in"),
        **dict.fromkeys(range(START + 300, END, 60), "HTTP 503"),
    }
    assert got.clock_steps == [(START + 240, START + 250.0, START + 310.5)]
    assert got.earlier == {START + 60}
    assert got.lists_nodes


def test_an_agent_of_before_says_nothing_of_its_sight():
    raw = answer()
    del raw["collector"]
    got = parse(raw)
    assert (got.collector, got.failed, got.clock_steps) == (None, {}, ())


def test_a_minute_with_rows_did_not_fail():
    raw = answer()
    raw["collector"]["failed"] = [[START, START + 180, "no way in"]]
    got = parse(raw)
    assert got.failed == {START + 120: "no way in"}
    assert START in got.minutes_alive


def test_unknown_kinds_and_fields_are_left_out_and_counted():
    raw = answer()
    raw["kinds"]["volcano"] = {"anything": 1}
    raw["kinds"]["node"]["fields"]["moon_phase"] = "full"
    got = parse(raw)
    assert got.ignored == 2
    assert len(got.rows) == 5


def test_a_missing_kind_is_no_data_of_it():
    raw = answer()
    del raw["kinds"]["pod"]
    assert {row.key.kind for row in parse(raw).rows} == {"node", "filesystem"}


def test_control_characters_go_and_markup_stays():
    raw = answer()
    raw["kinds"]["pod"]["series"][0]["name"] = 'web\n\x00\u202e<b>"1"</b>'
    raw["kinds"]["pod"]["series"][0]["attrs"] = {"image\r": "a\tb"}
    info = next(i for i in parse(raw).infos if i.key.kind == "pod")
    assert info.key.name == 'web<b>"1"</b>'
    assert dict(info.attrs) == {"image": "ab"}


def test_an_agent_kind_that_is_not_known_is_not_kept():
    raw = answer()
    raw["agent"]["kind"] = "<script>"
    assert parse(raw).kind == ""


def node_of(raw: dict[str, Any]) -> dict[str, Any]:
    return raw["kinds"]["node"]


def set_cell(column: str, value: object) -> Callable[[dict[str, Any]], None]:
    def change(raw: dict[str, Any]) -> None:
        node_of(raw)["fields"]["cpu_mc"][column][0] = value

    return change


def put(path: str, value: object) -> Callable[[dict[str, Any]], None]:
    def change(raw: dict[str, Any]) -> None:
        *steps, last = path.split(".")
        here: Any = raw
        for step in steps:
            here = here[int(step) if step.isdigit() else step]
        here[int(last) if last.isdigit() else last] = value

    return change


def drop(path: str) -> Callable[[dict[str, Any]], None]:
    def change(raw: dict[str, Any]) -> None:
        *steps, last = path.split(".")
        here: Any = raw
        for step in steps:
            here = here[step]
        del here[last]

    return change


def many_series(count: int) -> Callable[[dict[str, Any]], None]:
    def change(raw: dict[str, Any]) -> None:
        raw["kinds"]["pod"]["series"] = [{"ns": "a", "name": f"p{n}"} for n in range(count)]

    return change


BAD: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "no agent": (drop("agent"), "agent: not an object"),
    "kinds is a list": (put("kinds", []), "kinds: not an object"),
    "start is text": (put("start", str(START)), "start: not the start of a minute"),
    "start is true": (put("start", True), "start: not the start of a minute"),
    "covers what was not asked for": (put("start", START - 60), "asked for"),
    "ends before it starts": (put("end", START - 60), "asked for"),
    "ends after the window": (put("end", END + 60), "asked for"),
    "end between minutes": (put("end", END - 1), "end: not the start of a minute"),
    "oldest is a float": (put("oldest", 1.5), "oldest: not the start of a minute"),
    "now is text": (put("now", "noon"), "now: not a number"),
    "now is negative": (put("now", -1), "now: not a time"),
    "version is a number": (put("agent.version", 3), "agent.version: not a text"),
    "version is long": (put("agent.version", "9" * 41), "agent.version: 41 characters"),
    "node is a list": (put("kinds.node", []), "node: not an object"),
    "no series": (drop("kinds.node.series"), "node.series: not a list"),
    "series is text": (put("kinds.node.series.0", "n1"), "node.series[0]: not an object"),
    "no name": (put("kinds.node.series.0", {}),
                "node.series[0].name: not a text"),
    "name is empty": (put("kinds.node.series.0.name", "\n"), "node.series[0]: the name is empty"),
    "pod without namespace": (put("kinds.pod.series.0.ns", ""), "pod.series[0]: the name is empty"),
    "name is long": (put("kinds.pod.series.0.name", "x" * 254), "pod.series[0].name: 254"),
    "same name twice": (put("kinds.node.series.1.name", "n1\x07"), "the same name twice"),
    "attrs is a list": (put("kinds.node.series.0.attrs", []), "attrs: not an object"),
    "too many attrs": (put("kinds.node.series.0.attrs", {str(n): "" for n in range(17)}), "17"),
    "attr is a number": (put("kinds.node.series.0.attrs", {"a": 1}), "attrs: not a text"),
    "attr is long": (put("kinds.node.series.0.attrs", {"a": "b" * 257}), "attrs: 257"),
    "times are text": (put("kinds.node.t.0", str(START)), "node.t: str"),
    "time is a float": (put("kinds.node.t.0", float(START)), "node.t: float"),
    "time is true": (put("kinds.node.t.0", True), "node.t: bool"),
    "time before the window": (put("kinds.node.t.0", START - 60), "node.t: "),
    "time after the window": (put("kinds.node.t.2", END), "node.t: "),
    "time between minutes": (put("kinds.node.t.0", START + 1), "not the start of a minute"),
    "index too many": (put("kinds.node.i", [0, 1, 0, 1]), "node.i: 4 entries, but 3 times"),
    "index beyond": (put("kinds.node.i.1", 2), "node.i: an entry is outside 0..1"),
    "index negative": (put("kinds.node.i.1", -1), "node.i: an entry is outside 0..1"),
    "index is true": (put("kinds.node.i.1", True), "node.i: bool"),
    "a minute twice": (put("kinds.node.i.1", 0), "node: one series has a minute twice"),
    "fields is null": (put("kinds.node.fields", None), "node.fields: not an object"),
    "field is a list": (put("kinds.node.fields.cpu_mc", []), "node.fields.cpu_mc: not an object"),
    "a list is missing": (drop("kinds.node.fields.cpu_mc.h"), "cpu_mc.h: not a list"),
    "a list is short": (put("kinds.node.fields.cpu_mc.h", [1]), "not as long as t"),
    "value is a float": (set_cell("s", 400.0), "cpu_mc.s: float"),
    "value is true": (set_cell("l", True), "cpu_mc.l: bool"),
    "value is text": (set_cell("h", "1"), "cpu_mc.h: str"),
    "null in one list": (set_cell("s", None), "null in one list"),
    "null in different places": (
        put("kinds.node.fields.mem_ws.s", [None, 1, 7]), "mem_ws.s: NoneType",
    ),
    "no samples": (set_cell("n", 0), "cpu_mc.n: a number of samples"),
    "negative samples": (set_cell("n", -4), "cpu_mc.n: a number of samples"),
    "too many samples": (set_cell("n", 601), "cpu_mc.n: a number of samples"),
    "mean below the lowest": (set_cell("s", 100), "a mean is not between"),
    "mean above the highest": (set_cell("s", 1000), "a mean is not between"),
    "beyond 64 bits": (set_cell("h", 1 << 70), "cpu_mc: a value is beyond"),
    "far below zero": (set_cell("l", -(1 << 64)), "cpu_mc: a value is beyond"),
    "collector is text": (put("collector", "fine"), "collector: not an object"),
    "ok is a number": (put("collector.ok", 1), "collector.ok: neither"),
    "no ok": (drop("collector.ok"), "collector.ok: neither"),
    "error is long": (put("collector.error", "x" * 1001), "collector.error: 1001"),
    "error is a list": (put("collector.error", []), "collector.error: not a text"),
    "last reading at noon": (put("collector.last_at", "noon"), "collector.last_at: not a number"),
    "problems are a list": (put("collector.problems", []), "collector.problems: not an object"),
    "a problem is a number": (put("collector.problems", {"n1": 1}), "problems: not a text"),
    "a problem is long": (put("collector.problems", {"n1": "x" * 501}), "problems: 501"),
    "many problems": (put("collector.problems", {str(n): "" for n in range(1001)}), "1001 entries"),
    "failed is null": (put("collector.failed", None), "collector.failed: not a list"),
    "failed before the window": (put("collector.failed.0.0", START - 60), "no range within"),
    "failed after the window": (put("collector.failed.1.1", END + 60), "no range within"),
    "failed for no time": (put("collector.failed.0.1", START + 120), "no range within"),
    "failed twice": (put("collector.failed.1", [START + 120, END, ""]), "no range within"),
    "failed between minutes": (put("collector.failed.0.0", START + 61), "not the start of a"),
    "failed in four parts": (put("collector.failed.0", [START, END, "", 1]), "4 parts where 3"),
    "many failures": (put("collector.failed", [[0, 60, ""]] * 10_081), "10081 entries"),
    "a step is an object": (put("collector.clock_steps.0", {}), "clock_steps: not a list"),
    "a step to nowhere": (put("collector.clock_steps.0.2", 1e300), "clock_steps: not a time"),
    "a step of text": (put("collector.clock_steps.0.1", "1"), "clock_steps: not a number"),
    "an earlier minute outside": (put("collector.earlier", [[0, 60]]), "no range within"),
    "an earlier minute of three": (put("collector.earlier", [[0, 60, 0]]), "2 are expected"),
    "many steps": (put("collector.clock_steps", [[0, 0, 0]] * 1001), "1001 entries"),
    "a million series": (many_series(1_000_000), "pod.series: more than 20000"),
}  # fmt: skip


PROBLEMS = {
    "version is a number": "bad_name", "version is long": "bad_name", "no name": "bad_name",
    "name is empty": "bad_name", "pod without namespace": "bad_name", "name is long": "bad_name",
    "same name twice": "duplicate_series", "a minute twice": "duplicate_series",
    "too many attrs": "bad_name", "attr is a number": "bad_name", "attr is long": "bad_name",
    "a million series": "too_many_series", "error is long": "bad_name",
    "error is a list": "bad_name", "a problem is a number": "bad_name",
    "a problem is long": "bad_name",
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_a_bad_answer_is_refused_with_what_and_where(case: str):
    raw = answer()
    change, words = BAD[case]
    change(raw)
    with pytest.raises(BadResponseError) as caught:
        parse(raw)
    assert words in str(caught.value)
    assert len(str(caught.value)) < 300
    assert caught.value.problem == PROBLEMS.get(case, "bad_value")


def test_what_is_no_object_at_all_is_refused():
    for raw in (None, [], "text", 7, 1.5, True):
        with pytest.raises(BadResponseError, match="the answer: not an object"):
            parse(raw)


def test_data_from_the_future_is_refused():
    raw = answer()
    with pytest.raises(BadResponseError, match="in the future"):
        parse_answer(raw, START, END, now=START - 241)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


def places(value: object, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else ()
    items = enumerate(value) if isinstance(value, list) else items
    for key, inner in items:
        found += places(inner, (*path, key))
    return found


@settings(max_examples=examples(400), deadline=None)
@given(where=st.sampled_from(places(answer())), value=JSON)
def test_any_value_anywhere_is_refused_or_makes_sound_rows(where: tuple[Any, ...], value: object):
    raw = copy.deepcopy(answer())
    here: Any = raw
    for step in where[:-1]:
        here = here[step]
    here[where[-1]] = value
    try:
        got = parse(raw)
    except BadResponseError:
        return
    for row in got.rows:
        assert START <= row.ts < END
        assert row.ts % 60 == 0
        for cell in row.cells:
            if cell is not None:
                assert all(type(number) is int for number in cell)
                assert cell.n >= 1
                assert cell.low * cell.n <= cell.total <= cell.high * cell.n


class FakeClient:
    """Answers from a simulated agent and keeps what was asked."""

    def __init__(self, simulated: SimulatedAgent) -> None:
        self.simulated = simulated
        self.asked: list[tuple[int, int]] = []
        self.slot = ParseSlot("live")

    async def window(self, start: int, end: int) -> SourceAnswer:
        with self.slot:
            answer = await AgentSource().fetch(self, start, end, now=NOW, slot=self.slot)
            assert self.slot.held
        assert not self.slot.held
        return answer

    async def get_json(
        self, path: str, params: dict[str, str], *, before_parsing: Callable[[], object]
    ) -> Any:
        start, end = int(params["start"]), int(params["end"])
        self.asked.append((start, end))
        assert not self.slot.held
        before_parsing()
        return orjson.loads(orjson.dumps(self.simulated.range(start, end)))


async def test_a_window_comes_in_pieces_until_it_is_covered():
    world = World.make(7, 1, nodes=100, pods_per_node=30)
    simulated = SimulatedAgent(world, born=START - 3600, clock=lambda: NOW)
    client = FakeClient(simulated)
    got = await client.window(START - 600, END)
    assert len(client.asked) > 1
    assert [start for start, _ in client.asked] == sorted({start for start, _ in client.asked})
    assert (got.start, got.end) == (START - 600, END)
    assert len(got.rows) == 20 * 3200
    assert len({(row.ts, row.key) for row in got.rows}) == len(got.rows)


async def test_an_agent_that_makes_no_progress_is_asked_once():
    world = World.make(7, 1, nodes=1)
    simulated = SimulatedAgent(world, born=START, clock=lambda: START - 7200)
    client = FakeClient(simulated)
    got = await client.window(START, END)
    assert (len(client.asked), got.end, list(got.rows)) == (1, START, [])


async def test_every_number_of_a_simulated_cluster_arrives_unchanged():
    world = World.make(3, 2, churn=True)
    simulated = SimulatedAgent(world, born=START, clock=lambda: NOW)
    got = await FakeClient(simulated).window(START, END)
    rows = {(row.ts, row.key): row for row in got.rows}
    for minute in range(START // 60, END // 60):
        for slot, name, cells in world.pod_rows(minute):
            row = rows[minute * 60, SeriesKey("pod", slot.ns, name)]
            for field, stored in zip(FIELD_NAMES["pod"], row.cells, strict=True):
                assert stored == cells[field]


@pytest.mark.parametrize("name", ["oldest", "newest_end", "now"])
def test_a_time_that_no_calendar_holds_is_refused(name):
    raw = answer()
    raw[name] = (1 << 40) // 60 * 60 - 60
    with pytest.raises(BadResponseError, match=name):
        parse(raw)


async def test_a_raw_question_is_for_one_kind_of_series_only():
    asked = []

    class Client:
        async def get_json(self, path, params, **_):
            asked.append(params["kinds"])
            simulated = SimulatedAgent(World.make(7, 3), born=START, clock=lambda: NOW)
            return simulated.range(START, END, params["kinds"].split(","))

    key = SeriesKey("node", "", "node-1")
    answer = await AgentSource().raw(Client(), key, "cpu_mc", START, END, now=NOW)
    assert (asked, len(answer.t)) == (["node"], 10)


TEXTS = st.text(max_size=6) | st.sampled_from(["", "a" * 253, "a" * 254, "a\nb", "\u202e", "n1"])
LOOSE = TEXTS | st.none() | st.integers() | st.lists(TEXTS, max_size=1)
ENTRIES = st.fixed_dictionaries(
    {},
    optional={
        "name": LOOSE, "ns": LOOSE, "node": LOOSE,
        "attrs": st.dictionaries(TEXTS, LOOSE, max_size=18) | LOOSE,
    },
)  # fmt: skip


@given(st.sampled_from(["node", "filesystem", "pod"]), ENTRIES | LOOSE)
def test_a_series_that_is_checked_at_once_is_as_if_each_text_was_checked(kind, entry):
    at_once = responses._plain_series_info(kind, entry)
    if at_once is not None:
        assert at_once == responses._series_info(kind, entry, "here")


def test_a_usual_series_is_checked_at_once():
    entry = {"name": "web-0", "ns": "shop", "node": "n1", "attrs": {"phase": "Running"}}
    assert responses._plain_series_info("pod", entry) is not None
