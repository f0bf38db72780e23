"""One cluster of the API's list as JSON values, by plain expressions.

A list has a hundred clusters of some forty fields: asking each field for its value and its form
takes several times as long as the values do. :class:`~clusters.api.serializers.ClusterSerializer`
describes the same for the schema and for single clusters; a test compares both.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from clusters.health import Health
from clusters.health_facts import Finding
from clusters.selectors import ClusterOverview
from clusters.status_numbers import NUMBERS, Unit

_FORMS: dict[Unit, Callable[[Any], object]] = {"name": str, "0..1": float}
_NUMBERS = tuple(
    (number.api, name, _FORMS.get(number.unit, int))
    for name, number in NUMBERS.items()
    if number.api
)


def cluster_row(overview: ClusterOverview) -> dict[str, Any]:
    """Return a cluster as lists show it; None means not known."""
    age, rtt_ms = overview.data_age_seconds, overview.tunnel_rtt_ms
    row: dict[str, Any] = {
        "id": str(overview.id),
        "name": overview.name,
        "labels": {
            str(key): None if value is None else str(value)
            for key, value in overview.labels.items()
        },
        "customer": overview.customer,
        "customer_id": None if overview.customer_id is None else str(overview.customer_id),
        "simulated": overview.simulated,
        "kind": overview.kind,
        "agent_version": overview.agent_version,
        "health": _health(overview.health),
        "data_as_of": _utc(overview.data_as_of),
        "data_age_seconds": None if age is None else float(age),
    }
    for api, name, form in _NUMBERS:
        value = getattr(overview, name)
        row[api] = None if value is None else form(value)
    row["tunnel"] = {
        "up": overview.tunnel.up,
        "since": _utc(overview.tunnel_since),
        "seen_at": _utc(overview.tunnel_seen_at),
        "rtt_ms": None if rtt_ms is None else float(rtt_ms),
        "reason": overview.tunnel_reason,
    }
    return row


def _health(health: Health) -> dict[str, Any]:
    return {
        "state": health.state,
        "since": _utc(health.since),
        "was": health.was,
        "reason": health.reason,
        "at_least": health.at_least,
        "findings": [_finding(one) for one in health.findings],
    }


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "key": finding.key,
        "level": finding.level,
        "text": finding.text,
        "since": _utc(finding.since),
        "at_least": finding.at_least,
    }


def _utc(moment: datetime | None) -> str | None:
    """Return an aware time as ISO 8601 in UTC."""
    if moment is None:
        return None
    return f"{moment.astimezone(UTC).isoformat().removesuffix('+00:00')}Z"
