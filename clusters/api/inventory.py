"""Endpoints of the inventory of nodes: who was seen when, and the dismissal of a missing one."""

from __future__ import annotations

from typing import Any, ClassVar, get_args

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.generics import GenericAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from clusters.access import ClusterPermission
from clusters.api.base import CLUSTER_ID, ClusterScopedView, paged, request_user
from clusters.models import Cluster, ClusterNode
from clusters.node_inventory import (
    NodeState,
    dismiss_node,
    node_of,
    node_state,
    nodes_of,
    require_missing,
)
from opscenter.core.errors import NotFoundError

NODE_NAME = OpenApiParameter("name", OpenApiTypes.STR, OpenApiParameter.PATH)


class InventoryNodeSerializer(serializers.Serializer[Any]):
    """A node that the cluster has or had."""

    name = serializers.CharField()
    place = serializers.ChoiceField(
        choices=get_args(NodeState),
        help_text="`missing`: it sends nothing, nobody removed it, and it counts as not ready."
        " `gone`: it was missing for more than a day.",
    )
    first_seen_at = serializers.DateTimeField()
    last_seen_at = serializers.DateTimeField(help_text="End of its newest minute.")
    listed_by = serializers.CharField(help_text="Kind of the source that saw it last.")
    removed_at = serializers.DateTimeField(
        allow_null=True, help_text="When a list of what should be there lacked it."
    )
    dismissed_at = serializers.DateTimeField(allow_null=True)
    dismissed_by = serializers.CharField(
        allow_null=True, source="dismissed_by.username", default=None
    )


class InventoryView(ClusterScopedView, GenericAPIView[Any]):
    """The inventory of one cluster."""

    serializer_class = InventoryNodeSerializer
    filter_backends = ()

    @extend_schema(
        operation_id="clusters_inventory",
        summary="List the nodes that a cluster has or had, by name",
        parameters=[CLUSTER_ID],
        responses=InventoryNodeSerializer(many=True),
    )
    def get(self, request: Request, cluster_id: str) -> Response:  # noqa: ARG002
        """Return a page of the inventory, removed and dismissed nodes included."""
        rows = [_placed(self.cluster, row) for row in nodes_of(self.cluster)]
        return paged(self, rows, InventoryNodeSerializer)


class DismissNodeView(ClusterScopedView):
    """The dismissal of one missing node."""

    rights: ClassVar[dict[str, ClusterPermission]] = {"POST": "operate_cluster"}

    @extend_schema(
        operation_id="clusters_node_dismiss",
        summary="Dismiss a missing node",
        description="From the next pull on it does not count any more, until it is seen again."
        " 409 for a node that is not missing.",
        parameters=[CLUSTER_ID, NODE_NAME],
        request=None,
        responses=InventoryNodeSerializer,
    )
    def post(self, request: Request, cluster_id: str, name: str) -> Response:  # noqa: ARG002
        """Dismiss the node and return it."""
        user = request_user(request)
        row = node_of(self.cluster, name)
        if row is None:
            raise NotFoundError("The cluster never had a node of this name.")
        require_missing(self.cluster, row)
        dismissed = dismiss_node(self.cluster, name, user=user, actor=user, now=self.now)
        body = _placed(self.cluster, dismissed or row)
        return Response(InventoryNodeSerializer(body).data)


def _placed(cluster: Cluster, row: ClusterNode) -> ClusterNode:
    """Return the row with its place in the cluster as ``place``."""
    current = getattr(cluster, "current", None)
    row.place = node_state(row, None if current is None else current.data_as_of)  # type: ignore[attr-defined]
    return row
