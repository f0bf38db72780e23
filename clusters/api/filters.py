"""How lists of the API are narrowed."""

from __future__ import annotations

from typing import Any

import django_filters
from drf_spectacular.utils import OpenApiParameter
from rest_framework import serializers

from clusters.health import WORST_FIRST
from clusters.models import TunnelSession
from clusters.selectors import FleetFilter

FLEET_PARAMETERS = [
    OpenApiParameter("q", str, description="Words that must all occur in name, customer, labels."),
    OpenApiParameter("state", str, many=True, enum=WORST_FIRST, description="Any of these."),
    OpenApiParameter("label", str, many=True, description="`key` or `key=value`; all must fit."),
    OpenApiParameter("customer", str, description="A customer's name, exactly."),
]


def fleet_filter(query: Any) -> FleetFilter:
    """Read the fleet's filter from a query.

    Raises:
        serializers.ValidationError: if a state is not one of the six.
    """
    wanted = FleetFilter.from_query(query)
    unknown = [state for state in wanted.states if state not in WORST_FIRST]
    if unknown:
        raise serializers.ValidationError({"state": [f"Use {', '.join(WORST_FIRST)}."]})
    return wanted


class SessionFilterSet(django_filters.FilterSet):  # type: ignore[misc]
    """Tunnels by state, transport, and time."""

    connected_after = django_filters.IsoDateTimeFilter("connected_at", "gte")
    connected_before = django_filters.IsoDateTimeFilter("connected_at", "lt")
    open = django_filters.BooleanFilter("ended_at", "isnull", label="Still connected.")

    class Meta:
        model = TunnelSession
        fields = ["state", "transport"]
