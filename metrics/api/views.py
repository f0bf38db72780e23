"""Endpoints about the metrics of one cluster, which the base class looks up."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, ClassVar
from uuid import UUID

from django.http.response import HttpResponseBase
from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import ValidationError
from rest_framework.generics import GenericAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from clusters import access, audit
from clusters.api.base import CLUSTER_ID, ClusterScopedView, paged, request_user
from clusters.models import Cluster
from metrics import query as numbers
from metrics.api import parameters
from metrics.api.pagination import SeriesPagination, units_of
from metrics.api.serializers import (
    RangeSerializer,
    RawSerializer,
    SeriesSerializer,
    TopSerializer,
    WindowSerializer,
)
from metrics.csv_downloads import range_csv, raw_csv, top_csv
from metrics.query import RangeAnswer, SeriesList
from metrics.series.catalog import FIELD_NAMES, Kind, field_of
from metrics.series.windows import DAY
from opscenter.core.query_parameters import StrictQueryView


class SeriesListView(ClusterScopedView, GenericAPIView[Any]):
    """A page of the series of one kind."""

    serializer_class = SeriesSerializer
    pagination_class = SeriesPagination
    filter_backends = ()
    kind: ClassVar[Kind]

    def page_of(self, found: SeriesList) -> Response:
        """Return the requested page."""
        pages = self.paginator
        if isinstance(pages, SeriesPagination):
            pages.as_of, pages.units = found.as_of, units_of(self.kind)
        return paged(self, found.items, SeriesSerializer)


class NodeListView(SeriesListView):
    """The nodes of one cluster."""

    kind = "node"

    @extend_schema(
        operation_id="nodes_list",
        summary="List a cluster's nodes by name",
        description="Nodes that went within a day before the newest data are listed as well.",
        parameters=[CLUSTER_ID],
        responses=SeriesSerializer(many=True),
    )
    def get(self, request: Request, cluster_id: str) -> Response:  # noqa: ARG002
        """Return a page of nodes."""
        return self.page_of(numbers.nodes(self.cluster, self.unix_now))


class FilesystemListView(SeriesListView):
    """The filesystems of one cluster."""

    kind = "filesystem"
    query_parameters = parameters.FILESYSTEM_PARAMETERS

    @extend_schema(
        operation_id="filesystems_list",
        summary="List a cluster's filesystems, the fullest first",
        parameters=[CLUSTER_ID, *parameters.FILESYSTEM_PARAMETERS],
        responses=SeriesSerializer(many=True),
    )
    def get(self, request: Request, cluster_id: str) -> Response:  # noqa: ARG002
        """Return a page of filesystems."""
        node = parameters.text(request, "node") or None
        return self.page_of(numbers.filesystems(self.cluster, self.unix_now, node))


class PodListView(SeriesListView):
    """The pods of one cluster."""

    kind = "pod"
    query_parameters = parameters.POD_PARAMETERS

    @extend_schema(
        operation_id="pods_list",
        summary="List a cluster's pods",
        parameters=[CLUSTER_ID, *parameters.POD_PARAMETERS],
        responses=SeriesSerializer(many=True),
    )
    def get(self, request: Request, cluster_id: str) -> Response:  # noqa: ARG002
        """Return a page of the pods that are present."""
        found = numbers.pods(
            self.cluster,
            self.unix_now,
            order=parameters.choice(request, "order", ("name", *FIELD_NAMES["pod"]), "cpu_mc"),
            limit=0,
            search=parameters.text(request, "q"),
            node=parameters.text(request, "node") or None,
        )
        return self.page_of(found)


class RangeView(ClusterScopedView):
    """One field of one series over time."""

    query_parameters = parameters.RANGE_PARAMETERS

    @extend_schema(
        operation_id="range_get",
        summary="Get one field over time",
        parameters=[CLUSTER_ID, *parameters.RANGE_PARAMETERS],
        responses={(200, "application/json"): RangeSerializer, (200, "text/csv"): str},
    )
    def get(self, request: Request, cluster_id: str) -> HttpResponseBase:  # noqa: ARG002
        """Return columns; a series that does not exist has empty ones."""
        as_csv = parameters.wants_csv(request)
        wanted = parameters.range_query_of(request, self.unix_now)
        with numbers.reading(request_user(request).pk):
            answer = numbers.range_query(
                self.cluster,
                wanted.key,
                wanted.field,
                wanted.start,
                wanted.end,
                wanted.points,
                now=self.unix_now,
            )
            comparison = self._compare(wanted, answer)
        if as_csv:
            _record_export(self.request, self.cluster.pk, _audit_detail(wanted))
            return range_csv(self.cluster, wanted.key, wanted.field, answer, comparison)
        body = {"kind": wanted.key.kind, "ns": wanted.key.ns, "name": wanted.key.name}
        compared = None if comparison is None else asdict(comparison)
        return Response({**body, "field": wanted.field, **asdict(answer), "comparison": compared})

    def _compare(
        self, wanted: parameters.RangeQuery, answer: RangeAnswer
    ) -> numbers.Comparison | None:
        if wanted.compare is None:
            return None
        if answer.start < wanted.compare:
            raise ValidationError({"compare": ["The former range lies before 1970."]})
        return numbers.compare(
            self.cluster, wanted.key, wanted.field, answer, wanted.compare, wanted.points,
            now=self.unix_now,
        )  # fmt: skip


class RawView(ClusterScopedView):
    """Raw values, from the cluster itself."""

    query_parameters = parameters.RAW_PARAMETERS

    @extend_schema(
        operation_id="raw_get",
        summary="Ask the cluster itself for one field, as finely as its source has it",
        description="Goes through the tunnel while you wait, ten seconds at the most, for at most"
        " six hours. A user may ask two at once, and a cluster is asked one at once; further ones"
        " wait, then 429. 503 says why the cluster does not answer: `tunnel_down`, `service_down`,"
        " `consent_off`; 502 what is wrong with its answer.",
        parameters=[CLUSTER_ID, *parameters.RAW_PARAMETERS],
        responses={(200, "application/json"): RawSerializer, (200, "text/csv"): str},
    )
    def get(self, request: Request, cluster_id: str) -> HttpResponseBase:  # noqa: ARG002
        """Return the values; empty if the cluster has none of this series."""
        as_csv = parameters.wants_csv(request)
        wanted = parameters.raw_query_of(request, self.unix_now)
        answer = numbers.raw(
            self.cluster,
            wanted.key,
            wanted.field,
            wanted.start,
            wanted.end,
            now=self.now.timestamp(),
            user=request_user(request).pk,
        )
        unit = field_of(wanted.key.kind, wanted.field).unit
        if as_csv:
            _record_export(self.request, self.cluster.pk, _audit_detail(wanted))
            return raw_csv(self.cluster, wanted.key, wanted.field, unit, answer)
        body = {"kind": wanted.key.kind, "ns": wanted.key.ns, "name": wanted.key.name}
        span = {"field": wanted.field, "unit": unit, "start": wanted.start, "end": wanted.end}
        return Response({**body, **span, **asdict(answer)})


class ClusterTopView(ClusterScopedView):
    """The largest series of one cluster."""

    query_parameters = parameters.TOP_PARAMETERS

    @extend_schema(
        operation_id="cluster_top",
        summary="List a cluster's largest series over a range",
        parameters=[CLUSTER_ID, *parameters.TOP_PARAMETERS],
        responses={(200, "application/json"): TopSerializer, (200, "text/csv"): str},
    )
    def get(self, request: Request, cluster_id: str) -> HttpResponseBase:  # noqa: ARG002
        """Return the list, the largest first."""
        return _top(request, [self.cluster], self.unix_now, self.cluster.pk)


class FleetTopView(StrictQueryView):
    """The largest series of all clusters that the caller may see."""

    query_parameters = parameters.FLEET_TOP_PARAMETERS

    @extend_schema(
        operation_id="top",
        summary="List the largest series of all clusters over a range",
        parameters=parameters.FLEET_TOP_PARAMETERS,
        responses={(200, "application/json"): TopSerializer, (200, "text/csv"): str},
    )
    def get(self, request: Request) -> HttpResponseBase:
        """Return the list, the largest first."""
        visible = access.visible_clusters(request_user(request)).select_related("customer")
        customer = parameters.text(request, "customer")
        if customer:
            visible = visible.filter(customer__name=customer)
        return _top(request, list(visible), int(datetime.now(UTC).timestamp()), None)


def _top(
    request: Request, clusters: list[Cluster], now: int, cluster_id: UUID | None
) -> HttpResponseBase:
    as_csv = parameters.wants_csv(request)
    wanted = parameters.top_query_of(request, now)
    with numbers.reading(request_user(request).pk):
        answer = numbers.top(
            clusters, wanted.kind, wanted.field, wanted.start, wanted.end, now=now, by=wanted.by,
            limit=wanted.limit, search=wanted.search,
        )  # fmt: skip
    if as_csv:
        _record_export(request, cluster_id, asdict(wanted))
        return top_csv(answer)
    return Response(TopSerializer(answer).data)


def _audit_detail(wanted: parameters.RangeQuery | parameters.RawQuery) -> dict[str, Any]:
    """Return a query as it is stored in the audit log."""
    return {**asdict(wanted), "key": wanted.key._asdict()}


def _record_export(request: Request, cluster_id: UUID | None, wanted: dict[str, Any]) -> None:
    """Record a download of data in the audit log."""
    audit.record("data.export", actor=request_user(request), cluster_id=cluster_id, detail=wanted)


class WindowListView(ClusterScopedView, GenericAPIView[Any]):
    """The gap ledger of one cluster."""

    serializer_class = WindowSerializer
    filter_backends = ()
    query_parameters = parameters.WINDOW_PARAMETERS

    @extend_schema(
        operation_id="windows_list",
        summary="List what became of every pulled window",
        description="The last day if no time is given; oldest first.",
        parameters=[CLUSTER_ID, *parameters.WINDOW_PARAMETERS],
        responses=WindowSerializer(many=True),
    )
    def get(self, request: Request, cluster_id: str) -> Response:  # noqa: ARG002
        """Return a page of the ledger."""
        start, end = parameters.time_range(request, self.unix_now, DAY)
        states = parameters.window_states(request)
        return paged(self, numbers.windows(self.cluster, start, end, states), WindowSerializer)
