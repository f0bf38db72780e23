"""The supervisor's output never holds it up."""

from __future__ import annotations

import io
import json
import os

from opscenter.processes.output import JsonForm, LineWriter, TextForm, discard_unwritten


def test_lines_carry_the_name_of_their_process_in_order():
    stream = io.StringIO()
    writer = LineWriter(stream, TextForm(colour=False))
    writer("hub", "one")
    writer("worker", "two")
    writer.close(10)
    assert stream.getvalue() == "hub    | one\nworker | two\n"


def test_names_are_coloured_on_a_terminal_only():
    stream = io.StringIO()
    writer = LineWriter(stream, TextForm(colour=True))
    writer("hub", "one")
    writer.close(10)
    assert stream.getvalue() == "\x1b[36mhub    |\x1b[0m one\n"


def test_a_reader_that_went_away_is_no_error():
    reader, writer_end = os.pipe()
    os.close(reader)
    with os.fdopen(writer_end, "w") as stream:
        writer = LineWriter(stream, TextForm(colour=False))
        for number in range(100):
            writer("hub", str(number))
        writer.close(10)
        assert not writer._thread.is_alive()
        os.dup2(os.open(os.devnull, os.O_WRONLY), writer_end)  # so that the close can flush


def test_a_reader_that_does_not_read_loses_lines_and_costs_no_time():
    reader, writer_end = os.pipe()
    writer = LineWriter(os.fdopen(writer_end, "w"), TextForm(colour=False))
    for _ in range(120_000):
        writer("hub", "x" * 100)  # far more than pipe and queue hold
    writer.close(0.01)
    taken = b""
    while b"dropped" not in taken:
        taken += os.read(reader, 1 << 16)
        writer("up", "there is room again")
    assert b"lines were dropped: nobody read them" in taken
    os.close(reader)


def test_unread_output_does_not_fail_the_exit():
    reader, writer_end = os.pipe()
    os.close(reader)
    stream = os.fdopen(writer_end, "w")
    stream.write("a line that is still held")
    discard_unwritten(stream)
    stream.close()  # flushes once more, as Python does with its own at its exit


def test_a_stream_with_a_reader_keeps_what_it_holds():
    reader, writer_end = os.pipe()
    with os.fdopen(writer_end, "w") as stream:
        stream.write("held")
        discard_unwritten(stream)
    with os.fdopen(reader) as other:
        assert other.read() == "held"


def test_what_was_dropped_is_counted_exactly_and_said_where_it_is_missing():
    reader, writer_end = os.pipe()
    writer = LineWriter(os.fdopen(writer_end, "w"), JsonForm(children=""))
    sent = 20_000
    for number in range(sent):
        writer("hub", f"{number} {'x' * 1000}")
    writer("up", "after the hole", "INFO")  # dropped, too, or after the hole
    writer.close(0)
    taken = b""
    while writer._thread.is_alive() or b"were dropped" not in taken:
        taken += os.read(reader, 1 << 20)
    messages = [json.loads(line)["message"] for line in taken.splitlines()]
    at = next(n for n, text in enumerate(messages) if "were dropped: nobody read them" in text)
    assert [int(text.split()[0]) for text in messages[:at]] == list(range(at))
    after = len(messages) - at - 1
    assert at + int(messages[at].split()[0]) + after == sent + 1
    os.close(reader)


def test_a_line_of_any_length_takes_bounded_memory():
    stream = io.StringIO()
    writer = LineWriter(stream, JsonForm(children=""))
    writer("hub", "\x00" * 1_000_000)
    writer.close(10)
    assert len(stream.getvalue()) < 65_536


def test_lines_of_the_supervisor_have_the_level_it_gives_them():
    line = json.loads(JsonForm(children="")("up", "hub hangs", "ERROR"))
    assert (line["process"], line["level"], line["message"]) == ("up", "ERROR", "hub hangs")


def test_text_has_no_control_characters():
    text = TextForm(colour=False)("hub", "a\x1b[2J\u202eb\tc", None)
    assert text == "hub    | a\ufffd[2J\ufffdb\tc"
