"""Quantities and times as Kubernetes writes them."""

import pytest

from agent.collectors.kubefields import quantity, timestamp


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2", 2), ("1500m", 1.5), ("3948464Ki", 3_948_464 * 1024), ("1.5Gi", 1.5 * 2**30),
        ("1e3", 1000), ("129E6", 129e6), ("16G", 16e9), ("5E", 5e18), (4, 4), ("", None),
        ("abc", None), ("1Zi", None), ("1mi", None), (None, None), (True, None), ("NaN", None),
        ("1 G", None), ("1" * 400_000 + "x", None),
    ],
)  # fmt: skip
def test_quantities(text, value):
    assert quantity(text) == pytest.approx(value)


def test_times_of_go_have_nanoseconds():
    assert timestamp("2017-04-20T08:06:41.123456789Z") == pytest.approx(1492675601.123456)
    assert timestamp("2017-04-20T10:06:41+02:00") == 1492675601
    assert timestamp("yesterday") is None
    assert timestamp("2017-04-20T08:06:41") is None
