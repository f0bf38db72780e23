"""Every line of a process becomes one JSON object, and none passes for another's."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opscenter.core.json_lines import OutputReader, json_line, mark_of, rfc3339, wrapped
from opscenter.core.line_splitter import LONGEST_LINE_BYTES, LineSplitter

MARK = mark_of("5ec4e7")
RECORD = {"time": "2026-03-01T12:00:00.000Z", "process": "hub", "level": "INFO", "message": "up"}


def objects(reader: OutputReader, written: bytes) -> list[dict[str, object]]:
    """Return what comes out for what a process wrote until it ended."""
    splitter = LineSplitter()
    lines = [*splitter.feed(written), *splitter.end()]
    found = [one for line in lines for one in reader.objects(line)]
    assert all(one.isascii() and one.isprintable() for one in found)
    assert all(len(one) < LONGEST_LINE_BYTES for one in found)
    return [json.loads(one) for one in found]


def test_a_time_is_rfc_3339_in_utc_with_milliseconds():
    assert rfc3339(1_772_366_400.0) == "2026-03-01T12:00:00.000Z"
    assert rfc3339(1_772_366_400.9999) == "2026-03-01T12:00:00.999Z"


def test_a_record_of_ours_stays_as_it_is():
    line = (MARK + json.dumps(RECORD) + "\n").encode()
    assert objects(OutputReader("hub", MARK), line) == [RECORD]


def test_an_object_without_the_mark_is_only_text():
    forged = json.dumps(RECORD | {"process": "web", "request_id": "abc"})
    (line,) = objects(OutputReader("redis"), forged.encode())
    assert line["process"] == "redis"
    assert line["message"] == forged
    assert "request_id" not in line


def test_a_guessed_mark_is_only_text():
    forged = (mark_of("guess") + json.dumps(RECORD)).encode()
    (line,) = objects(OutputReader("worker", MARK), forged)
    assert (line["process"], line["logger"]) == ("worker", "output")


def test_a_record_cannot_name_another_process():
    record = MARK + json.dumps(RECORD | {"process": "web"})
    assert [one["process"] for one in objects(OutputReader("hub", MARK), record.encode())] == [
        "hub"
    ]


def test_the_supervisors_records_name_their_processes():
    reader = OutputReader("up", MARK, relays=True)
    assert objects(reader, (MARK + json.dumps(RECORD)).encode()) == [RECORD]


def test_half_a_record_is_text_and_the_next_one_is_whole():
    half = (MARK + json.dumps(RECORD))[:-20]
    written = half + MARK + json.dumps(RECORD) + "\n"
    first, second = objects(OutputReader("hub", MARK), written.encode())
    assert first["logger"] == "output"
    assert second == RECORD


def test_text_without_an_end_before_a_record_is_a_line_of_its_own():
    written = "a library prints" + MARK + json.dumps(RECORD) + "\n"
    first, second = objects(OutputReader("hub", MARK), written.encode())
    assert first["message"] == "a library prints"
    assert second == RECORD


@pytest.mark.parametrize(
    ("line", "level", "logger", "message"),
    [
        ("7:M 29 Nov 2026 22:57:35.000 # Can't save", "WARNING", "redis", "Can't save"),
        ("7:M 29 Nov 2026 22:57:35.000 * Ready", "INFO", "redis", "Ready"),
        ("2026-11-29 22:57:35,000 ERROR agent.sampler: no", "ERROR", "agent.sampler", "no"),
        ("Traceback (most recent call last):", "ERROR", "output", None),
        ("Fatal Python error: Segmentation fault", "ERROR", "output", None),
        ("django.core.exceptions.ImproperlyConfigured: no", "ERROR", "output", None),
        ("CommandError: port 1", "ERROR", "output", None),
        ("worker: Warm shutdown (MainProcess)", "INFO", "celery", None),
        ("something unexpected", "WARNING", "output", None),
    ],
)
def test_the_level_of_a_line_is_found_in_the_usual_forms(line, level, logger, message):
    found = json.loads(wrapped("redis", line))
    assert (found["level"], found["logger"]) == (level, logger)
    assert found["message"] == (line if message is None else message)


@given(st.binary(max_size=2000))
def test_whatever_is_written_every_line_parses_and_names_its_process(written):
    for one in objects(OutputReader("hub", MARK), written):
        assert one["process"] == "hub"


@given(
    st.lists(
        st.sampled_from([MARK, json.dumps(RECORD), "\n", "\x1e", '{"level":', "\x00", "\u2028"])
    )
)
def test_no_mixture_of_pieces_breaks_the_stream_or_names_another(pieces):
    for one in objects(OutputReader("worker", MARK), "".join(pieces).encode()):
        assert one["process"] == "worker"


@pytest.mark.parametrize("text", ["\x00", "\U0001f600", "x", "\u2028", "\ud800", '"', "é"])
def test_a_long_text_is_cut_to_bytes_and_says_how_much_is_missing(text):
    line = json_line({"message": text * 100_000, "error": text * 100_000, "logger": text * 100_000})
    assert len(line) < LONGEST_LINE_BYTES
    found = json.loads(line)
    assert all("characters left out)" in value for value in found.values())
    kept, _, rest = found["message"].partition(" ... (")
    assert len(kept) + int(rest.split()[0]) == 100_000


def test_a_long_traceback_keeps_its_last_lines():
    found = json.loads(json_line({"error": "Traceback\n" + "frame\n" * 50_000 + "ValueError: why"}))
    assert found["error"].startswith("Traceback\n")
    assert found["error"].endswith("ValueError: why")


def test_a_field_without_a_value_is_left_out():
    assert json.loads(json_line({"message": "", "cluster": None, "status": 0})) == {
        "message": "", "status": 0,
    }  # fmt: skip
