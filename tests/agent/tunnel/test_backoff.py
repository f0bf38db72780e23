"""When and where to dial: rules by value, and properties for every state."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.tunnel.backoff import (
    CAP_SECONDS,
    STABLE_SECONDS,
    TCP,
    WEBSOCKET,
    DialState,
    after_failure,
    after_session,
    endpoint_of,
    first_state,
    retry_ceiling_seconds,
    retry_delay_seconds,
)

HOSTS = ("hub-a:2222", "hub-b:2222")
URLS = ("wss://hub-a/tunnel",)


def test_the_ceiling_doubles_from_two_seconds_to_a_minute():
    assert [retry_ceiling_seconds(k) for k in range(7)] == [2, 4, 8, 16, 32, 60, 60]


@given(st.integers(0, 10**9), st.integers())
def test_every_delay_is_within_its_ceiling_and_the_cap(attempt, seed):
    delay = retry_delay_seconds(attempt, random.Random(seed).uniform)
    assert 0 <= delay <= retry_ceiling_seconds(attempt) <= CAP_SECONDS


def test_delays_of_a_fleet_are_spread_over_the_whole_window():
    uniform = random.Random(7).uniform
    delays = sorted(retry_delay_seconds(5, uniform) for _ in range(1000))
    for part in range(10):  # full jitter: each tenth of the minute gets about a tenth
        assert 60 < sum(1 for d in delays if part * 6 <= d < (part + 1) * 6) < 150


def test_a_negative_attempt_is_refused():
    with pytest.raises(ValueError, match="negative"):
        retry_ceiling_seconds(-1)


def walk(state, steps, addresses=HOSTS, urls=URLS, preference="auto"):
    """Return the endpoints dialled over failures; each step says whether a hub answered."""
    dialled = []
    for reached in steps:
        dialled.append(str(endpoint_of(state, addresses, urls)))
        state = after_failure(state, addresses, urls, preference, reached=reached)
    return dialled


def test_three_unreached_dials_switch_to_the_websocket_and_three_more_back():
    start = first_state(HOSTS, URLS, "auto")
    assert walk(start, [False] * 8) == [
        "hub-a:2222", "hub-b:2222", "hub-a:2222",
        "wss://hub-a/tunnel", "wss://hub-a/tunnel", "wss://hub-a/tunnel",
        "hub-a:2222", "hub-b:2222",
    ]  # fmt: skip


def test_a_hub_that_answers_and_refuses_keeps_the_transport():
    start = first_state(HOSTS, URLS, "auto")
    assert set(walk(start, [True] * 9)) == set(HOSTS)


def test_a_chosen_transport_is_never_left():
    assert set(walk(first_state(HOSTS, URLS, "ws"), [False] * 9, preference="ws")) == set(URLS)
    assert set(walk(first_state(HOSTS, URLS, "tcp"), [False] * 9, preference="tcp")) == set(HOSTS)


def test_a_transport_without_addresses_is_reported_at_the_start():
    with pytest.raises(ValueError, match="no address for transport 'ws'"):
        first_state(HOSTS, (), "ws")
    assert first_state((), URLS, "auto").transport == WEBSOCKET


def test_back_off_is_reset_only_after_a_session_of_a_minute():
    tired = DialState(TCP, attempt=4, unreached=2, position=1)
    assert after_session(tired, STABLE_SECONDS).attempt == 0
    assert after_session(tired, STABLE_SECONDS - 1).attempt == 5
    assert after_session(tired, STABLE_SECONDS).position == 1  # the same hub first


@given(
    st.lists(st.sampled_from(HOSTS), max_size=3),
    st.lists(st.sampled_from(URLS), max_size=3),
    st.sampled_from(["auto", "tcp", "ws"]),
    st.lists(st.booleans() | st.floats(0, 200), max_size=40),
)
def test_the_state_always_names_an_allowed_endpoint(hosts, urls, preference, events):
    if not {"auto": hosts + urls, "tcp": hosts, "ws": urls}[preference]:
        with pytest.raises(ValueError, match="no address"):
            first_state(hosts, urls, preference)
        return
    state = first_state(hosts, urls, preference)
    tried = set()
    for event in events:
        endpoint = endpoint_of(state, hosts, urls)
        assert endpoint.address in (hosts if endpoint.transport == TCP else urls)
        assert preference in ("auto", endpoint.transport)
        tried.add(endpoint.transport)
        if isinstance(event, bool):
            state = after_failure(state, hosts, urls, preference, reached=event)
        else:
            state = after_session(state, event)
    if preference == "auto" and hosts and urls and events and all(e is False for e in events):
        assert len(tried) == (2 if len(events) > 3 else 1)
