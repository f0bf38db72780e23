"""Endpoints about the numbers of one cluster. The base class has looked the cluster up before."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, ClassVar

from drf_spectacular.utils import extend_schema
from rest_framework.generics import GenericAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from clusters.api.base import CLUSTER_ID, ClusterScopedView, paged
from metrics import query as numbers
from metrics.api import parameters
from metrics.api.pages import SeriesPagination, units_of
from metrics.api.serializers import RangeSerializer, SeriesSerializer, WindowSerializer
from metrics.catalog import FIELD_NAMES, Kind
from metrics.query import SeriesList

_DAY = 86_400


class SeriesListView(ClusterScopedView, GenericAPIView[Any]):
    """A page of the series of one kind."""

    serializer_class = SeriesSerializer
    pagination_class = SeriesPagination
    filter_backends = ()
    kind: ClassVar[Kind]

    def page_of(self, found: SeriesList) -> Response:
        """Return the asked-for page."""
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
        responses=RangeSerializer,
    )
    def get(self, request: Request, cluster_id: str) -> Response:  # noqa: ARG002
        """Return columns; a series that does not exist has empty ones."""
        asked = parameters.range_query_of(request, self.unix_now)
        answer = numbers.range_query(
            self.cluster,
            asked.key,
            asked.field,
            asked.start,
            asked.end,
            asked.points,
            now=self.unix_now,
        )
        body = {"kind": asked.key.kind, "ns": asked.key.ns, "name": asked.key.name}
        return Response({**body, "field": asked.field, **asdict(answer)})


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
        start, end = parameters.time_range(request, self.unix_now, _DAY)
        states = parameters.window_states(request)
        return paged(self, numbers.windows(self.cluster, start, end, states), WindowSerializer)
