"""The ledger's word for what went wrong on the way."""

from __future__ import annotations

import pytest

from metrics.charts.figure import reason_text
from metrics.pulling.ledger_facts import reason_of
from metrics.pulling.ledger_rules import REASONS, Outage, why_missing
from opscenter.core.errors import (
    BadResponseError,
    ClusterError,
    ClusterUnreachableError,
    ConsentOffError,
    ServiceUnavailableError,
    SourceConfigError,
)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ClusterUnreachableError("x"), "tunnel_down"),
        (ServiceUnavailableError("x"), "service_down"),
        (ConsentOffError("x"), "consent_off"),
        (BadResponseError("x", problem="not_json"), "bad_response"),
        (SourceConfigError("x"), "centre_down"),
        (ClusterError("x"), "service_down"),
    ],
)
def test_every_failure_has_a_reason_and_words(error, reason):
    assert reason_of(error) == reason
    assert reason_text("gap", reason)


@pytest.mark.parametrize("code", REASONS)
def test_an_outage_has_the_same_reason_as_the_pulls_that_failed_in_it(code: str):
    outage = Outage(last_attempt_at=600, error_code=code, tunnel_up=[(0, None)])
    assert why_missing(0, 600, outage) == (REASONS[code], "pulls failed at the time")
