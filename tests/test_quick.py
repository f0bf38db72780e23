"""Quick tests are chosen by what they ask for, and what they did not ask for is noticed."""

from __future__ import annotations

import ctypes.util
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests import quick


@pytest.fixture
def seen() -> Iterator[list[str]]:
    """What was noticed of this test, which may do here what would fail it elsewhere."""
    yield quick._watch.seen
    quick._watch.seen.clear()


@pytest.fixture
def a_server(starts_servers) -> None:
    """What a fixture that starts a server asks for."""


def test_a_test_that_asks_for_no_server_is_quick(request):
    assert request.node.get_closest_marker("quick")


def test_a_test_whose_fixture_starts_a_server_is_not(request, a_server):
    assert not request.node.get_closest_marker("quick")


@pytest.mark.usefixtures("starts_servers")
def test_a_test_that_starts_one_itself_is_not_and_may(request):
    with socket.create_server(("127.0.0.1", 0)):
        assert not request.node.get_closest_marker("quick")
    assert quick._watch.seen == []


def test_a_process_is_noticed(seen):
    subprocess.run([sys.executable, "-S", "-c", ""], check=True)
    assert len(seen) == 1
    assert sys.executable in seen[0]


def test_the_search_for_a_shared_library_is_not(seen):
    ctypes.util.find_library("c")  # runs programs of the machine
    assert seen == []


def test_a_socket_that_listens_is_noticed_and_so_is_its_caller(seen):
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname()).close()
    assert [text.split()[0] for text in seen] == ["socket.bind", "socket.connect"]


def test_a_server_that_is_not_there_may_be_called(tmp_path):
    with socket.socket(socket.AF_UNIX) as sock, pytest.raises(FileNotFoundError):
        sock.connect(str(tmp_path / "no.sock"))
    assert quick._watch.seen == []
