"""A row of the API's list is what the serializer of a single cluster would write."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import get_args
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st
from rest_framework.renderers import JSONRenderer

import opscenter.urls  # noqa: F401 - REST framework has to be imported as the server does it
from clusters.api.serializers import ClusterRowSerializer, ClusterSerializer
from clusters.health import Health, State, TunnelState
from clusters.health_facts import LEVELS, Finding
from clusters.selectors import ClusterOverview
from clusters.status_numbers import NUMBERS

texts = st.text(max_size=30) | st.sampled_from(
    ["<script>alert(1)</script>", 'a"b', "null", "", "\u202e\u2028é", "0" * 300]
)
moments = st.none() | st.datetimes(
    min_value=datetime(1971, 1, 1),  # noqa: DTZ001 - the zone is drawn
    max_value=datetime(9000, 1, 1),  # noqa: DTZ001 - the zone is drawn
    timezones=st.sampled_from(
        [UTC, timezone(timedelta(hours=5, minutes=45)), timezone(timedelta(hours=-9))]
    ),
)
wholes = st.none() | st.integers(-(1 << 63), (1 << 63) - 1)
shares = st.none() | st.floats(allow_nan=False, allow_infinity=False) | st.integers(-2, 2)
seconds = st.none() | st.floats(-1e12, 1e12) | st.integers(-5, 5)
findings = st.builds(
    Finding, texts, st.sampled_from(LEVELS), texts, moments, st.booleans(), st.just(0.5)
)
health = st.builds(
    Health, st.sampled_from(get_args(State)), moments, texts, texts,
    st.lists(findings, max_size=3).map(tuple), st.booleans(),
)  # fmt: skip
tunnels = st.builds(TunnelState, st.sampled_from(["up", "down", "unknown"]), moments)
labels = st.dictionaries(
    texts, texts | st.none() | st.integers() | st.booleans() | st.lists(st.integers()), max_size=4
)
of_unit = {"0..1": shares, "name": texts}
numbers = st.fixed_dictionaries(
    {name: of_unit.get(number.unit, wholes) for name, number in NUMBERS.items() if number.api}
)


@st.composite
def overviews(draw: st.DrawFn) -> ClusterOverview:
    return ClusterOverview(
        id=draw(st.uuids()), name=draw(texts), labels=draw(labels), customer=draw(texts),
        customer_id=draw(st.none() | st.uuids()), status="active", simulated=draw(st.booleans()),
        kind=draw(texts), agent_version=draw(texts), created_at=datetime(2026, 1, 1, tzinfo=UTC),
        enrolled_at=None, health=draw(health), data_as_of=draw(moments),
        data_age_seconds=draw(seconds), tunnel=draw(tunnels), tunnel_since=draw(moments),
        tunnel_seen_at=draw(moments), tunnel_reason=draw(texts), tunnel_rtt_ms=draw(seconds),
        last_pull_at=None, last_pull_ok_at=None, pull_error_code="", pull_error="",
        pull_failures=0, clock_skew_ms=None, settle_seconds=0, collector_error="",
        conflict_at=None, conflict_detail="", **draw(numbers),
    )  # fmt: skip


def written(serializer: type[ClusterSerializer], shown: list[ClusterOverview]) -> bytes:
    return JSONRenderer().render(serializer(shown, many=True).data)


@given(st.lists(overviews(), max_size=2))
def test_a_row_is_byte_for_byte_what_the_serializer_writes(shown):
    assert written(ClusterRowSerializer, shown) == written(ClusterSerializer, shown)


def test_a_row_of_which_nothing_is_known_is_what_the_serializer_writes():
    nothing = ClusterOverview(
        id=UUID(int=0), name="c", labels={}, customer="", customer_id=None, status="pending",
        simulated=False, kind="", agent_version="", created_at=datetime(2026, 1, 1, tzinfo=UTC),
        enrolled_at=None, health=Health("pending"), data_as_of=None, data_age_seconds=None,
        tunnel=TunnelState("down", None), tunnel_since=None, tunnel_seen_at=None, tunnel_reason="",
        tunnel_rtt_ms=None, last_pull_at=None, last_pull_ok_at=None, pull_error_code="",
        pull_error="", pull_failures=0, clock_skew_ms=None, settle_seconds=0, collector_error="",
        conflict_at=None, conflict_detail="",
    )  # fmt: skip
    assert written(ClusterRowSerializer, [nothing]) == written(ClusterSerializer, [nothing])
