"""Endpoints about a cluster's sources, and the progress of filling gaps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from clusters.access import ClusterPermission
from clusters.api.base import CLUSTER_ID, ClusterScopedView, request_user
from metrics.api import source_serializers as shapes
from metrics.connections.config import (
    SourceConfig,
    config_of,
    read_config,
    remove_source,
    save_source,
    source_row,
)
from metrics.connections.probe import Report, try_source
from metrics.connections.status import sourcing_of
from metrics.pulling.status import progress_of
from metrics.sources.kinds import Role
from opscenter.core.errors import NotFoundError

_RIGHTS: dict[str, ClusterPermission] = {
    "GET": "view_cluster",
    "PUT": "operate_cluster",
    "DELETE": "operate_cluster",
}


@dataclass(frozen=True)
class _Sent:
    """The validated source of a request."""

    config: SourceConfig
    test: bool


class _SourceBase(ClusterScopedView):
    """Common to the endpoints of the main source and of etcd."""

    body_methods = frozenset({"POST", "PUT"})
    role: ClassVar[Role]

    def sent(self, request: Request, shape: type[serializers.Serializer[Any]]) -> _Sent:
        """Return the validated source of the request.

        Raises:
            ValidationError, InvalidInputError: naming the field that cannot be used.
        """
        body = shape(data=request.data)
        body.is_valid(raise_exception=True)
        given = dict(body.validated_data)
        test = given.pop("test", True)
        kind = given.pop("kind", self.role)
        before = source_row(self.cluster, self.role)
        return _Sent(read_config(kind, **given, before=before), test)

    def put_source(self, request: Request, shape: type[serializers.Serializer[Any]]) -> Response:
        """Test the source if requested, and save it if the test succeeds."""
        sent = self.sent(request, shape)
        actor = request_user(request)
        report = try_source(self.cluster, sent.config, actor=actor) if sent.test else None
        saved = report is None or report.ok
        if saved:
            probe = report.as_json() if report is not None else None
            save_source(self.cluster, sent.config, actor=actor, probe=probe)
        body = {"saved": saved, "report": report, "sourcing": sourcing_of(self.cluster)}
        return Response(shapes.SourceSavedSerializer(body).data)

    def test_sent(self, request: Request, shape: type[serializers.Serializer[Any]]) -> Response:
        """Test the source of the request; with an empty body, the saved one."""
        if request.data:
            config = self.sent(request, shape).config
        else:
            row = source_row(self.cluster, self.role)
            if row is None:
                raise NotFoundError("The cluster has no such source; send one to be tested.")
            config = config_of(row)
        return _report(try_source(self.cluster, config, actor=request_user(request)))

    def remove(self, request: Request) -> Response:
        """Remove the source; stored data stays."""
        remove_source(self.cluster, self.role, actor=request_user(request))
        return Response(status=status.HTTP_204_NO_CONTENT)


class SourceView(_SourceBase):
    """The sources of a cluster's data."""

    rights = _RIGHTS
    role = "main"

    @extend_schema(
        operation_id="source_get",
        summary="Get where a cluster's numbers come from",
        parameters=[CLUSTER_ID],
        responses=shapes.SourcingSerializer,
    )
    def get(self, request: Request, cluster_id: str) -> Response:  # noqa: ARG002
        """Return the sources, without their secrets."""
        return Response(shapes.SourcingSerializer(sourcing_of(self.cluster)).data)

    @extend_schema(
        operation_id="source_put",
        summary="Set a cluster's main source",
        description="It is tested through the tunnel first, which takes up to a minute; a failed"
        " test is a 200 with `saved: false` and the reason in `report`.",
        parameters=[CLUSTER_ID],
        request=shapes.SourcePutSerializer,
        responses=shapes.SourceSavedSerializer,
    )
    def put(self, request: Request, cluster_id: str) -> Response:  # noqa: ARG002
        """Save the source; the next pull continues where the last one stopped."""
        return self.put_source(request, shapes.SourcePutSerializer)

    @extend_schema(
        operation_id="source_delete",
        summary="Go back to the agent's own collectors",
        parameters=[CLUSTER_ID],
        responses={204: None},
    )
    def delete(self, request: Request, cluster_id: str) -> Response:  # noqa: ARG002
        """Remove the main source; 404 if the agent's own collectors answer already."""
        return self.remove(request)


class SourceTestView(_SourceBase):
    """A test of a main source."""

    rights: ClassVar[dict[str, ClusterPermission]] = {"POST": "operate_cluster"}
    role = "main"

    @extend_schema(
        operation_id="source_test",
        summary="Test a main source through the tunnel",
        description="Changes nothing but the list of services that the hub accepts. With an empty"
        " body the source that is set is tested.",
        parameters=[CLUSTER_ID],
        request=shapes.SourceWriteSerializer,
        responses=shapes.ReportSerializer,
    )
    def post(self, request: Request, cluster_id: str) -> Response:  # noqa: ARG002
        """Return the report of the test."""
        return self.test_sent(request, shapes.SourceWriteSerializer)


class EtcdView(_SourceBase):
    """The cluster's etcd, in addition to its main source."""

    rights: ClassVar[dict[str, ClusterPermission]] = {
        "PUT": "operate_cluster",
        "DELETE": "operate_cluster",
    }
    role = "etcd"

    @extend_schema(
        operation_id="etcd_put",
        summary="Set a cluster's etcd",
        description="As the main source, which `GET .../source/` shows along with it.",
        parameters=[CLUSTER_ID],
        request=shapes.EtcdPutSerializer,
        responses=shapes.SourceSavedSerializer,
    )
    def put(self, request: Request, cluster_id: str) -> Response:  # noqa: ARG002
        """Save the source of etcd's values."""
        return self.put_source(request, shapes.EtcdPutSerializer)

    @extend_schema(
        operation_id="etcd_delete",
        summary="Read etcd's figures no longer",
        parameters=[CLUSTER_ID],
        responses={204: None},
    )
    def delete(self, request: Request, cluster_id: str) -> Response:  # noqa: ARG002
        """Remove it; 404 if there is none."""
        return self.remove(request)


class EtcdTestView(_SourceBase):
    """A test of a cluster's etcd."""

    rights: ClassVar[dict[str, ClusterPermission]] = {"POST": "operate_cluster"}
    role = "etcd"

    @extend_schema(
        operation_id="etcd_test",
        summary="Test a cluster's etcd through the tunnel",
        parameters=[CLUSTER_ID],
        request=shapes.EtcdWriteSerializer,
        responses=shapes.ReportSerializer,
    )
    def post(self, request: Request, cluster_id: str) -> Response:  # noqa: ARG002
        """Return the report of the test."""
        return self.test_sent(request, shapes.EtcdWriteSerializer)


class BackfillView(ClusterScopedView):
    """The progress of filling a cluster's gaps."""

    @extend_schema(
        operation_id="backfill_get",
        summary="Get how far the filling of gaps is, and how long it still takes",
        parameters=[CLUSTER_ID],
        responses=shapes.BackfillSerializer,
    )
    def get(self, request: Request, cluster_id: str) -> Response:  # noqa: ARG002
        """Return what is left, and the rate."""
        return Response(shapes.BackfillSerializer(progress_of(self.cluster)).data)


def _report(report: Report) -> Response:
    return Response(shapes.ReportSerializer(report).data)
