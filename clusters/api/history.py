"""The endpoint of a cluster's history: its states and findings, each with beginning and end."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import django_filters
from django.db.models import Q, QuerySet
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.generics import ListAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from clusters.api.base import CLUSTER_ID, ClusterScopedView
from clusters.api.filters import MomentFilter
from clusters.history import events_of
from clusters.models import ClusterEvent


class EventSerializer(serializers.ModelSerializer[ClusterEvent]):
    """A time in which the cluster was in one state, or a finding had one level."""

    key = serializers.CharField(help_text="`state`, or a finding's: `node:n3`, `clock`.")
    level = serializers.CharField(help_text="The state, or the finding's level.")
    text = serializers.CharField(help_text="Why, or what; the newest while it lasts.")
    began_at = serializers.DateTimeField(help_text="By evidence; a filled gap may move it.")
    began_at_least = serializers.BooleanField(help_text="Whether it may have begun earlier.")
    began_known_at = serializers.DateTimeField(help_text="When it was recorded; never changes.")
    ended_at = serializers.DateTimeField(
        allow_null=True, help_text="By evidence, as the beginning; null while it is so."
    )
    ended_known_at = serializers.DateTimeField(
        allow_null=True,
        help_text="When an end was recorded; never changes. Before `ended_at` where a filled gap"
        " showed later that it went on.",
    )
    ending = serializers.ChoiceField(
        choices=["", *filter(None, ClusterEvent.Ending.values)],
        help_text="`over`, `changed` (it went on, in the next entry), `unknown` (nobody could see"
        " it any more), or empty.",
    )

    class Meta:
        model = ClusterEvent
        fields = [
            "key", "level", "text", "began_at", "began_at_least", "began_known_at", "ended_at",
            "ended_known_at", "ending",
        ]  # fmt: skip


@extend_schema_field({"type": "string", "minLength": 1})
class KeyFilter(django_filters.CharFilter):  # type: ignore[misc]
    """A key, exactly; spaces are part of it."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(strip=False, **kwargs)


class HistoryFilterSet(django_filters.FilterSet):  # type: ignore[misc]
    """What was so at any time of a span, and of one key."""

    start = MomentFilter(method="since", label="What had not ended by then.")
    end = MomentFilter("began_at", "lt", label="What had begun by then.")
    key = KeyFilter(field_name="key", label="`state`, or a finding's key.")

    class Meta:
        model = ClusterEvent
        fields: list[str] = []

    def since(
        self, queryset: QuerySet[ClusterEvent], name: str, value: datetime
    ) -> QuerySet[ClusterEvent]:
        """Return what ended after a moment, or is still so."""
        del name
        return queryset.filter(Q(ended_at=None) | Q(ended_at__gt=value))


class HistoryListView(ClusterScopedView, ListAPIView[ClusterEvent]):
    """The history of one cluster."""

    serializer_class = EventSerializer
    filterset_class = HistoryFilterSet
    queryset = ClusterEvent.objects.none()  # what the schema is made from

    def get_queryset(self) -> QuerySet[ClusterEvent]:
        """Return the cluster's history, newest first."""
        if getattr(self, "swagger_fake_view", False):
            return ClusterEvent.objects.none()
        return events_of(self.cluster)

    @extend_schema(
        operation_id="clusters_history",
        summary="List a cluster's states and findings over time, newest first",
        parameters=[CLUSTER_ID],
    )
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Return a page of the history."""
        return super().get(request, *args, **kwargs)
