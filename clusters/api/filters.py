"""How lists of the API are narrowed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import django_filters
from django import forms
from django_filters.fields import IsoDateTimeField
from django_filters.rest_framework import DjangoFilterBackend
from drf_spectacular.utils import OpenApiParameter, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request

from clusters.health import WORST_FIRST
from clusters.models import TunnelSession
from clusters.selectors import FleetFilter

FLEET_PARAMETERS = [
    OpenApiParameter("q", str, description="Words that must all occur in name, customer, labels."),
    OpenApiParameter("state", str, many=True, enum=WORST_FIRST, description="Any of these."),
    OpenApiParameter("label", str, many=True, description="`key` or `key=value`; all must match."),
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


class StrictFilterBackend(DjangoFilterBackend):  # type: ignore[misc]
    """django-filter, refusing an empty value that it would ignore."""

    def get_filterset_kwargs(self, request: Request, queryset: Any, view: Any) -> dict[str, Any]:
        """Return what the filter set is made from.

        Raises:
            ValidationError: naming each filter without a value.
        """
        names = self.get_filterset_class(view, queryset).base_filters
        empty = [name for name in names if request.query_params.get(name) == ""]
        if empty:
            raise serializers.ValidationError({name: ["Give a value."] for name in empty})
        return dict(super().get_filterset_kwargs(request, queryset, view))


@extend_schema_field(bool)
class StrictBooleanFilter(django_filters.TypedChoiceFilter):  # type: ignore[misc]
    """``true`` or ``false``; anything else is refused instead of ignored."""

    def __init__(self, **kwargs: Any) -> None:
        choices = (("true", "yes"), ("false", "no"))
        super().__init__(choices=choices, coerce="true".__eq__, **kwargs)


class MomentField(IsoDateTimeField):  # type: ignore[misc]
    """A moment in any UTC offset, as UTC: PostgreSQL refuses offsets beyond sixteen hours."""

    def clean(self, value: Any) -> datetime | None:
        """Return the moment in UTC; None for no value.

        Raises:
            forms.ValidationError: if it is no moment, or one before the year 1 or after 9999.
        """
        moment: datetime | None = super().clean(value)
        if moment is None:
            return None
        try:
            return moment.astimezone(UTC)
        except OverflowError as exc:
            raise forms.ValidationError("Give a moment between the years 1 and 9999.") from exc


class MomentFilter(django_filters.IsoDateTimeFilter):  # type: ignore[misc]
    """Compares with a moment that is given in any UTC offset."""

    field_class = MomentField


class SessionFilterSet(django_filters.FilterSet):  # type: ignore[misc]
    """Tunnels by state, transport, and time."""

    connected_after = MomentFilter("connected_at", "gte")
    connected_before = MomentFilter("connected_at", "lt")
    transport = django_filters.ChoiceFilter(choices=(("tcp", "SSH"), ("wss", "WebSocket")))
    open = StrictBooleanFilter(
        field_name="ended_at", lookup_expr="isnull", label="Still connected."
    )

    class Meta:
        model = TunnelSession
        fields = ["state"]
