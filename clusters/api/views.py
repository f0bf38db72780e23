"""Endpoints about clusters. Each parses, checks the permission, calls one function and answers."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

from django.conf import settings
from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema, inline_serializer
from rest_framework import serializers, status
from rest_framework.generics import GenericAPIView, ListAPIView
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse

from clusters import access, selectors, services
from clusters.access import ClusterPermission
from clusters.api.base import CLUSTER_ID, ClusterScopedView, paged, request_user
from clusters.api.filters import FLEET_PARAMETERS, SessionFilterSet, fleet_filter
from clusters.api.serializers import (
    ClusterCreateSerializer,
    ClusterDetailSerializer,
    ClusterRowSerializer,
    ClusterSerializer,
    ClusterUpdateSerializer,
    EnrolmentReplySerializer,
    EnrolmentSerializer,
    JoinTokenSerializer,
    SessionSerializer,
)
from clusters.enrolment import join_command
from clusters.enrolment import services as enrolment
from clusters.enrolment.attempts import count_attempt
from clusters.models import Cluster, Customer, TunnelSession
from clusters.tunnel.host_key import host_key_fingerprint
from opscenter.core.errors import NotFoundError
from opscenter.core.query_parameters import StrictQueryView


class RootView(StrictQueryView):
    """Where things are."""

    @extend_schema(
        operation_id="root",
        summary="List the entry points",
        responses=inline_serializer(
            "Root",
            {name: serializers.URLField() for name in ("clusters", "schema", "docs")},
        ),
    )
    def get(self, request: Request) -> Response:
        """Return the addresses of the collections, the schema and its page."""
        return Response(
            {
                name: reverse(f"api:{name}", request=request)
                for name in ("clusters", "schema", "docs")
            }
        )


class ClusterListView(StrictQueryView, GenericAPIView[Cluster]):
    """The clusters that the user sees."""

    body_methods = frozenset({"POST"})
    serializer_class = ClusterSerializer
    filter_backends = ()
    query_parameters = FLEET_PARAMETERS

    @extend_schema(
        operation_id="clusters_list",
        summary="List clusters, worst first",
        parameters=FLEET_PARAMETERS,
        responses=ClusterSerializer(many=True),
    )
    def get(self, request: Request) -> Response:
        """Return a page of the visible clusters, judged now."""
        wanted = fleet_filter(request.query_params)
        visible = access.visible_clusters(request_user(request))
        overviews = selectors.cluster_overviews(visible, datetime.now(UTC))
        fitting = selectors.filter_overviews(overviews, wanted)
        return paged(self, fitting, ClusterRowSerializer)

    @extend_schema(
        operation_id="clusters_create",
        summary="Add a cluster",
        request=ClusterCreateSerializer,
        responses={201: ClusterDetailSerializer},
    )
    def post(self, request: Request) -> Response:
        """Create a cluster that waits for its agent; operators only."""
        user = request_user(request)
        access.require_create(user)
        wanted = _valid(ClusterCreateSerializer(data=request.data))
        customer = _customer(wanted["customer_id"])
        cluster = services.create_cluster(
            name=wanted["name"], labels=wanted["labels"], customer=customer, actor=user
        )
        return Response(_detail(cluster, datetime.now(UTC)), status=status.HTTP_201_CREATED)


class ClusterDetailView(ClusterScopedView):
    """One cluster."""

    body_methods = frozenset({"PATCH"})
    rights: ClassVar[dict[str, ClusterPermission]] = {
        "GET": "view_cluster",
        "PATCH": "operate_cluster",
        "DELETE": "operate_cluster",
    }

    @extend_schema(
        operation_id="clusters_get",
        summary="Get a cluster",
        parameters=[CLUSTER_ID],
        responses=ClusterDetailSerializer,
    )
    def get(self, request: Request, cluster_id: str) -> Response:  # noqa: ARG002
        """Return everything known about the cluster."""
        return Response(_detail(self.cluster, self.now))

    @extend_schema(
        operation_id="clusters_update",
        summary="Rename or relabel a cluster",
        parameters=[CLUSTER_ID],
        request=ClusterUpdateSerializer,
        responses=ClusterDetailSerializer,
    )
    def patch(self, request: Request, cluster_id: str) -> Response:  # noqa: ARG002
        """Change what is given and return the cluster; the name is for who acts on all clusters."""
        wanted = _valid(ClusterUpdateSerializer(data=request.data))
        if wanted.get("name", self.cluster.name) != self.cluster.name:
            access.require_rename(request_user(request))
        cluster = services.update_cluster(self.cluster, actor=request_user(request), **wanted)
        return Response(_detail(cluster, self.now))

    @extend_schema(
        operation_id="clusters_delete",
        summary="Delete a cluster and its data",
        parameters=[CLUSTER_ID],
        responses={204: None},
    )
    def delete(self, request: Request, cluster_id: str) -> Response:  # noqa: ARG002
        """Delete the cluster; its audit lines stay."""
        services.delete_cluster(self.cluster, actor=request_user(request))
        return Response(status=status.HTTP_204_NO_CONTENT)


class JoinTokenView(ClusterScopedView):
    """Join tokens of one cluster."""

    rights: ClassVar[dict[str, ClusterPermission]] = {"POST": "operate_cluster"}

    @extend_schema(
        operation_id="clusters_join_token",
        summary="Issue a join token",
        description="It replaces an unused one. The token is shown only here.",
        parameters=[CLUSTER_ID],
        request=None,
        responses={201: JoinTokenSerializer},
    )
    def post(self, request: Request, cluster_id: str) -> Response:  # noqa: ARG002
        """Return a new single-use token and the command that uses it."""
        token = enrolment.issue_join_token(self.cluster, actor=request_user(request), now=self.now)
        body = {
            "token": token,
            "expires_at": self.now + timedelta(hours=settings.JOIN_TOKEN_HOURS),
            "hub_key_fingerprint": host_key_fingerprint(),
            "command": join_command.join_command(token),
        }
        return Response(JoinTokenSerializer(body).data, status=status.HTTP_201_CREATED)


class RevokeView(ClusterScopedView):
    """The end of a cluster's right to connect."""

    rights: ClassVar[dict[str, ClusterPermission]] = {"POST": "operate_cluster"}

    @extend_schema(
        operation_id="clusters_revoke",
        summary="Revoke a cluster",
        description="Its keys and open join tokens stop working; its data stays.",
        parameters=[CLUSTER_ID],
        request=None,
        responses=ClusterDetailSerializer,
    )
    def post(self, request: Request, cluster_id: str) -> Response:  # noqa: ARG002
        """Revoke the cluster and return it."""
        services.revoke_cluster(self.cluster, actor=request_user(request), now=self.now)
        return Response(_detail(self.cluster, self.now))


class SessionListView(ClusterScopedView, ListAPIView[TunnelSession]):
    """The tunnels of one cluster."""

    serializer_class = SessionSerializer
    filterset_class = SessionFilterSet
    queryset = TunnelSession.objects.none()  # what the schema is made from

    def get_queryset(self) -> QuerySet[TunnelSession]:
        """Return the cluster's tunnels, newest first."""
        if getattr(self, "swagger_fake_view", False):
            return TunnelSession.objects.none()
        return selectors.tunnel_sessions(self.cluster)

    @extend_schema(
        operation_id="clusters_sessions",
        summary="List a cluster's tunnels, newest first",
        parameters=[CLUSTER_ID],
    )
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Return a page of the tunnel history."""
        return super().get(request, *args, **kwargs)


class EnrolView(StrictQueryView):
    """Where agents enrol. No sign-in: the join token is the permission."""

    body_methods = frozenset({"POST"})
    authentication_classes = ()
    permission_classes = (AllowAny,)

    @extend_schema(
        operation_id="agents_enrol",
        summary="Enrol an agent with a join token",
        request=EnrolmentSerializer,
        responses={
            200: EnrolmentReplySerializer,
        },
        auth=[],
    )
    def post(self, request: Request) -> Response:
        """Register the agent's key and tell it who it is and where to dial."""
        sent = _valid(EnrolmentSerializer(data=request.data))
        address = str(request.META.get("REMOTE_ADDR", ""))
        count_attempt(enrolment.cluster_of_token(sent["token"]), address)
        reply = enrolment.enrol(**sent, remote_address=address, now=datetime.now(UTC))
        body = {
            "cluster_id": reply.cluster_id,
            "cluster_name": reply.cluster_name,
            "hub": asdict(join_command.hub_info()),
            "services": reply.services,
            "keepalive_seconds": settings.HUB_KEEPALIVE_SECONDS,
        }
        return Response(EnrolmentReplySerializer(body).data)


def _valid(serializer: serializers.Serializer[Any]) -> dict[str, Any]:
    """Return the validated input.

    Raises:
        ValidationError: naming each invalid field.
    """
    serializer.is_valid(raise_exception=True)
    return dict(serializer.validated_data)


def _customer(customer_id: Any) -> Customer | None:
    """Return the customer of a new cluster; creating is for those who see all customers.

    Raises:
        NotFoundError: if there is none with this id.
    """
    if customer_id is None:
        return None
    customer = Customer.objects.filter(pk=customer_id).first()
    if customer is None:
        raise NotFoundError("customer_id: there is no such customer.")
    return customer


def _detail(cluster: Cluster, now: datetime) -> dict[str, Any]:
    overview = selectors.cluster_overview(cluster, now)
    return dict(ClusterDetailSerializer(overview, context={"cluster": cluster}).data)
