"""Who is let in before signing in, and who goes when there are too many."""

from __future__ import annotations

from dataclasses import replace

import pytest

from clusters.tunnel.hub.door import Door, Entry, network_of
from clusters.tunnel.hub.limits import Limits

SMALL = replace(
    Limits(), pending_handshakes=12, pending_handshakes_kept=3, pending_handshakes_per_address=4
)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def door(clock):
    return Door(Limits(), clock)


@pytest.fixture
def small(clock):
    return Door(SMALL, clock)


def come(door: Door, *addresses: str) -> list[Entry]:
    """Let connections in, all of which must find a place."""
    entries = [door.enter(address) for address in addresses]
    assert None not in entries
    return [entry for entry in entries if entry is not None]


def ended(entries: list[Entry]) -> list[str]:
    """Return the addresses of those that were displaced."""
    return [entry.address for entry in entries if entry.end == "displaced"]


def test_a_newcomer_displaces_the_oldest_of_the_address_that_holds_most(door):
    addresses = [f"192.0.{number}.1" for number in range(8)]
    silent = [door.enter(address) for address in addresses * 20]
    first = [entry for entry in silent if entry is not None]
    aborted: list[str] = []
    for entry in first:
        entry.abort = lambda entry=entry: aborted.append(entry.address)

    cluster = door.enter("198.51.100.7")

    assert door.pending == 150
    assert cluster is not None
    assert cluster.inside
    assert aborted == ended(first)
    assert len(aborted) == 1
    assert first[addresses.index(aborted[0])].end == "displaced"  # its oldest


def test_nobody_is_displaced_where_all_hold_one(small):
    agents = come(small, *(f"10.0.{number}.1" for number in range(12)))
    assert small.enter("10.0.99.1") is None
    assert ended(agents) == []


def test_many_addresses_of_one_network_do_not_outweigh_one_of_another(small):
    inside = come(small, *(f"192.0.2.{number}" for number in range(12)))
    assert small.enter("198.51.100.7") is not None
    assert ended(inside) == ["192.0.2.0"]
    assert small.enter("192.0.2.99") is None  # its own network holds most


def test_a_neighbour_in_the_network_that_holds_most_still_comes_in(small):
    inside = come(small, *("192.0.2.1", "192.0.2.2", "192.0.2.3") * 4)
    assert small.enter("192.0.2.77") is not None
    assert ended(inside) == ["192.0.2.1"]


def test_places_are_kept_for_addresses_of_agents(small, clock):
    small.remember(["203.0.113.5"])
    come(small, *(f"10.0.{number}.1" for number in range(12)))
    assert small.enter("10.0.99.1") is None
    assert small.enter("203.0.113.5") is not None
    clock.now += 86_401
    assert not small.is_known("203.0.113.5")
    assert small.enter("203.0.113.5") is None


def test_an_agent_is_remembered_when_its_key_has_signed_in(small):
    [entry] = come(small, "203.0.113.5")
    assert not small.is_known("203.0.113.5")
    small.signed_in(entry)
    assert small.is_known("203.0.113.5")
    assert small.pending == 0


def test_one_address_holds_a_few_and_the_next_is_refused(small):
    inside = come(small, *["192.0.2.1"] * 4)
    assert small.enter("192.0.2.1") is None
    assert ended(inside) == []
    small.leave(inside[0])
    assert small.enter("192.0.2.1") is not None


def test_all_addresses_of_a_64_count_as_one(small):
    come(small, *(f"2001:db8:1:2::{number}" for number in range(4)))
    assert small.enter("2001:db8:1:2:ffff::1") is None
    assert small.enter("2001:db8:1:3::1") is not None


def test_one_address_opens_so_many_connections_in_a_minute(door, clock):
    for _ in range(600):
        [entry] = come(door, "192.0.2.1")
        door.leave(entry)
    assert door.enter("192.0.2.1") is None
    assert door.enter("192.0.2.2") is not None
    clock.now += 121
    assert door.enter("192.0.2.1") is not None


def test_who_has_exchanged_no_keys_is_cut_after_five_seconds(door, clock):
    silent, slow = come(door, "192.0.2.1", "192.0.2.2")
    slow.has_spoken = lambda: True
    for _ in range(6):
        clock.now += 1
        door.sweep()
    assert (silent.end, slow.end) == ("silent", "")
    for _ in range(16):
        clock.now += 1
        door.sweep()
    assert slow.end == "silent"
    assert door.pending == 0


def test_nobody_is_cut_for_silence_while_the_hub_itself_was_busy(door, clock):
    [entry] = come(door, "192.0.2.1")
    clock.now += 6
    door.sweep()  # six seconds after the last one: what it sent may not be read yet
    assert entry.end == ""
    clock.now += 1
    door.sweep()
    assert entry.end == "silent"


def test_behind_a_trusted_proxy_the_forwarded_address_counts(small):
    for number in range(4):
        entry = small.enter("127.0.0.1", through_proxy=True)
        assert small.move(entry, "192.0.2.1"), number
    fifth, other = (small.enter("127.0.0.1", through_proxy=True) for _ in range(2))
    assert not small.move(fifth, "192.0.2.1")
    assert small.move(other, "192.0.2.2")
    assert small.held("192.0.2.1") == 4
    assert small.held("127.0.0.1") == 0
    small.leave(fifth)
    assert small.pending == 5


def test_connections_of_a_proxy_that_ask_nothing_give_way(small, clock):
    idle = [small.enter("127.0.0.1", through_proxy=True) for _ in range(15)]
    assert small.enter("127.0.0.1", through_proxy=True) is None  # they may be asking just now
    clock.now += 2
    entry = small.enter("127.0.0.1", through_proxy=True)
    assert entry is not None
    assert idle[0].end == "displaced"


def test_the_oldest_of_the_largest_group_goes_when_descriptors_are_short(small):
    one, *two = come(small, "192.0.2.1", "198.51.100.7", "198.51.100.7")
    assert small.make_room()
    assert ended([one, *two]) == ["198.51.100.7"]
    assert two[0].end == "displaced"
    assert small.make_room()
    assert small.make_room()
    assert not small.make_room()


def test_who_left_is_counted_out_once(small):
    [entry] = come(small, "192.0.2.1")
    small.leave(entry)
    small.leave(entry)
    assert (small.pending, small.held("192.0.2.1")) == (0, 0)


@pytest.mark.parametrize(
    ("group", "network"),
    [
        ("192.0.2.9", "192.0.2.0/24"),
        ("2001:db8:1:2::/64", "2001:db8:1::/48"),
        ("", ""),
        ("test", "test"),
    ],
)
def test_the_network_of_a_group(group, network):
    assert network_of(group) == network
