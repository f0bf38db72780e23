"""The sliding window of a rate."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from opscenter.core.budgets.windows import Count, Windows, position


def test_a_moment_has_a_window_and_a_place_in_it() -> None:
    assert position(150.0, 60) == (2, 0.5)


def test_the_former_window_fades() -> None:
    some = Windows(max_holders=10)
    for _ in range(4):
        some.take("a", 1, 0.9, limit=4, cost=1)

    assert some.take("a", 2, 0.1, limit=4, cost=1).outcome == "refused"
    assert some.take("a", 2, 0.5, limit=4, cost=1).outcome == "counted"


def test_after_two_windows_nothing_is_left() -> None:
    some = Windows(max_holders=10)
    some.take("a", 1, 0.0, limit=1, cost=1)

    assert some.take("a", 3, 0.0, limit=1, cost=1).outcome == "counted"


def test_a_full_table_refuses_newcomers_and_forgets_nobody() -> None:
    some = Windows(max_holders=2)
    some.take("a", 1, 0.0, limit=1, cost=1)
    some.take("b", 1, 0.0, limit=1, cost=1)

    assert some.take("c", 1, 0.0, limit=1, cost=1).outcome == "full"
    assert some.take("a", 1, 0.0, limit=1, cost=1).outcome == "refused"


def test_what_is_taken_back_is_free_again() -> None:
    some = Windows(max_holders=2)
    some.take("a", 1, 0.0, limit=1, cost=1)
    some.add("a", 1, -1)

    assert some.take("a", 1, 0.0, limit=1, cost=1).outcome == "counted"


def test_more_than_was_counted_is_never_taken_back() -> None:
    some = Windows(max_holders=2)
    some.add("a", 1, -5)

    assert some.take("a", 1, 0.0, limit=1, cost=1).outcome == "counted"
    assert some.take("a", 1, 0.0, limit=1, cost=1).outcome == "refused"


@given(
    before=st.integers(0, 20), current=st.integers(0, 20),
    passed=st.floats(0, 0.999), limit=st.integers(1, 20),
)  # fmt: skip
def test_after_the_wait_one_more_fits_and_not_much_earlier(
    before: int, current: int, passed: float, limit: int
) -> None:
    current = min(current, limit)
    before = min(before, limit)
    seconds = 60.0
    wait = Count("refused", before, current, passed).wait_seconds(limit, 1, seconds)

    assert _fits(before, current, passed * seconds + wait + 1e-6, limit, seconds)
    if wait > 0.001:
        assert not _fits(before, current, passed * seconds + wait - 0.001, limit, seconds)


def _fits(before: int, current: int, at: float, limit: int, seconds: float) -> bool:
    """Return whether one more fits ``at`` seconds after the beginning of the present window."""
    if at >= seconds:
        before, current, at = current, 0, at - seconds
    return Count("refused", before, current, at / seconds).used + 1 <= limit + 1e-9
