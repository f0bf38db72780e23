"""Whatever a process writes becomes lines of bounded length."""

from __future__ import annotations

from opscenter.core.line_splitter import LineSplitter


def test_lines_are_put_together_from_pieces():
    splitter = LineSplitter()
    assert splitter.feed(b"one\ntw") == ["one"]
    assert splitter.feed(b"o\r\n\nthree") == ["two", ""]
    assert splitter.end() == ["three"]
    assert splitter.end() == []


def test_a_line_that_is_too_long_says_how_much_is_left_out_and_the_next_is_whole():
    splitter = LineSplitter(longest=10)
    for _ in range(1000):
        assert splitter.feed(b"x" * 1000) == []
        assert len(splitter._held) <= 10
    assert splitter.feed(b"\nnext\n") == ["xxxxxxxxxx ... (999990 bytes left out)", "next"]


def test_bytes_that_are_no_text_are_replaced():
    assert LineSplitter().feed(b"a\xff\xfeb\n") == ["a\ufffd\ufffdb"]


def test_a_line_cut_at_the_end_of_a_process_is_not_lost():
    splitter = LineSplitter()
    splitter.feed(b"half a li")
    assert splitter.end() == ["half a li"]
