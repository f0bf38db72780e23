"""The ledger's word for what went wrong on the way."""

from __future__ import annotations

import pytest

from metrics.charts.figure import reason_text
from metrics.pulling.ledger import reason_of
from opscenter.core.errors import (
    BadResponseError,
    ClusterError,
    ClusterUnreachableError,
    ConsentOffError,
    ServiceUnavailableError,
)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ClusterUnreachableError("x"), "tunnel_down"),
        (ServiceUnavailableError("x"), "service_down"),
        (ConsentOffError("x"), "consent_off"),
        (BadResponseError("x", problem="not_json"), "bad_response"),
        (ClusterError("x"), "service_down"),
    ],
)
def test_every_failure_has_a_reason_and_words(error, reason):
    assert reason_of(error) == reason
    assert reason_text("gap", reason)
