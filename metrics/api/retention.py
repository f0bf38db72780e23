"""Endpoints about retention classes, customers' retention, and legal holds.

Users who may see all clusters see classes; a customer's users see its own retention. Administrators
change it.
"""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib.auth.models import User
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import status
from rest_framework.generics import GenericAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from clusters import access, legal_holds
from clusters.access import ClusterPermission
from clusters.api.base import CLUSTER_ID, ClusterScopedView, paged, request_user
from clusters.models import Cluster, Customer, LegalHold
from metrics.api import retention_serializers as shapes
from metrics.api.base import CUSTOMER_ID, CustomerScopedView, valid
from metrics.deletion.preview import effect_of_assigning, effect_of_change
from metrics.models import CustomerRetention, RetentionClass
from metrics.retention import in_force, services
from metrics.retention.rules import complete
from metrics.retention.selectors import customer_summaries
from opscenter.core.errors import NotFoundError
from opscenter.core.query_parameters import StrictQueryView

CLASS_ID = OpenApiParameter("class_id", OpenApiTypes.INT, OpenApiParameter.PATH)


class ClassListView(StrictQueryView, GenericAPIView[Any]):
    """All retention classes."""

    body_methods = frozenset({"POST"})
    serializer_class = shapes.ClassSerializer
    filter_backends = ()

    @extend_schema(
        operation_id="retention_classes_list",
        summary="List retention classes by name",
        responses=shapes.ClassSerializer(many=True),
    )
    def get(self, request: Request) -> Response:
        """Return a page of the classes; for those who see all clusters."""
        access.require_sees_all(request_user(request))
        rows = [_with_customers(row) for row in RetentionClass.objects.all()]
        return paged(self, rows, shapes.ClassSerializer)

    @extend_schema(
        operation_id="retention_classes_create",
        summary="Add a retention class",
        description="Administrators only. Nobody has it yet, so that nothing is deleted.",
        request=shapes.ClassWriteSerializer,
        responses={201: shapes.ClassSerializer},
    )
    def post(self, request: Request) -> Response:
        """Create the class."""
        access.require_manage_retention(request_user(request))
        sent = valid(shapes.ClassWriteSerializer(data=request.data))
        row = services.create_class(**sent, actor=request_user(request))
        body = shapes.ClassSerializer(_with_customers(row)).data
        return Response(body, status=status.HTTP_201_CREATED)


class ClassDetailView(StrictQueryView):
    """One retention class."""

    body_methods = frozenset({"PATCH"})

    @extend_schema(
        operation_id="retention_classes_get",
        summary="Get a retention class",
        parameters=[CLASS_ID],
        responses=shapes.ClassSerializer,
    )
    def get(self, request: Request, class_id: str) -> Response:
        """Return the class; for those who see all clusters."""
        access.require_sees_all(request_user(request))
        return Response(shapes.ClassSerializer(_with_customers(_class(class_id))).data)

    @extend_schema(
        operation_id="retention_classes_change",
        summary="Change a retention class",
        description="Administrators only. Longer limits apply at once; shorter ones start"
        " deleting after 24 hours; `effect` says what, also for a `dry_run`.",
        parameters=[CLASS_ID],
        request=shapes.ClassChangeSerializer,
        responses=shapes.ClassChangedSerializer,
    )
    def patch(self, request: Request, class_id: str) -> Response:
        """Change what is given."""
        access.require_manage_retention(request_user(request))
        row = _class(class_id)
        sent = valid(shapes.ClassChangeSerializer(data=request.data))
        dry_run = sent.pop("dry_run")
        effect = effect_of_change(row, sent.get("limits"), is_default=sent.get("is_default", False))
        if not dry_run:
            services.change_class(row, **sent, actor=request_user(request))
        body = {"retention_class": _with_customers(row), "effect": effect, "saved": not dry_run}
        return Response(shapes.ClassChangedSerializer(body).data)

    @extend_schema(
        operation_id="retention_classes_delete",
        summary="Delete a retention class that nobody has",
        parameters=[CLASS_ID],
        responses={204: None},
    )
    def delete(self, request: Request, class_id: str) -> Response:
        """Delete the class; 409 if it is the default or a customer has it."""
        access.require_manage_retention(request_user(request))
        services.delete_class(_class(class_id), actor=request_user(request))
        return Response(status=status.HTTP_204_NO_CONTENT)


class CustomerListView(StrictQueryView, GenericAPIView[Any]):
    """The customers that the caller may see."""

    serializer_class = shapes.CustomerSerializer
    filter_backends = ()

    @extend_schema(
        operation_id="customers_list",
        summary="List customers by name",
        responses=shapes.CustomerSerializer(many=True),
    )
    def get(self, request: Request) -> Response:
        """Return a page of the visible customers."""
        rows = customer_summaries(access.visible_customers(request_user(request)))
        return paged(self, rows, shapes.CustomerSerializer)


class CustomerRetentionView(CustomerScopedView):
    """How long one customer's data is kept."""

    body_methods = frozenset({"PATCH"})
    keeper_methods = ("PATCH",)

    @extend_schema(
        operation_id="customers_retention",
        summary="Get how long a customer's data is kept",
        parameters=[CUSTOMER_ID],
        responses=shapes.CustomerRetentionSerializer,
    )
    def get(self, request: Request, customer_id: str) -> Response:  # noqa: ARG002
        """Return the class, its limits, and the active holds."""
        body = _retention_of(self.customer, request_user(request))
        return Response(shapes.CustomerRetentionSerializer(body).data)

    @extend_schema(
        operation_id="customers_retention_change",
        summary="Give a customer another retention class",
        description="Administrators only. What becomes shorter is deleted after 24 hours; `effect`"
        " says what, also for a `dry_run`.",
        parameters=[CUSTOMER_ID],
        request=shapes.AssignSerializer,
        responses=shapes.AssignedSerializer,
    )
    def patch(self, request: Request, customer_id: str) -> Response:  # noqa: ARG002
        """Choose the class."""
        sent = valid(shapes.AssignSerializer(data=request.data))
        wanted = sent["retention_class_id"]
        chosen = None if wanted is None else _class(str(wanted))
        effect = effect_of_assigning(self.customer, chosen)
        if not sent["dry_run"]:
            services.assign(self.customer, chosen, actor=request_user(request))
        body = {
            "retention": _retention_of(self.customer, request_user(request)),
            "effect": effect,
            "saved": not sent["dry_run"],
        }
        return Response(shapes.AssignedSerializer(body).data)


class ClusterRetentionView(ClusterScopedView):
    """How long one cluster's data is kept."""

    @extend_schema(
        operation_id="clusters_retention",
        summary="Get how long a cluster's data is kept",
        parameters=[CLUSTER_ID],
        responses=shapes.ClusterRetentionSerializer,
    )
    def get(self, request: Request, cluster_id: str) -> Response:  # noqa: ARG002
        """Return the limits in force, those wanted, and the active holds."""
        found = in_force.retention_of(self.cluster, self.unix_now)
        body = {
            "retention_class": found.name,
            "limits": found.effective.limits,
            "wanted": found.effective.wanted,
            "due_at": found.effective.due_at,
            "legal_holds": _holds(legal_holds.standing(self.cluster), request_user(request)),
        }
        return Response(shapes.ClusterRetentionSerializer(body).data)


class CustomerHoldView(CustomerScopedView):
    """The legal hold on one customer."""

    body_methods = frozenset({"POST"})
    methods = ()
    keeper_methods = ("POST", "DELETE")

    @extend_schema(
        operation_id="customers_hold_place",
        summary="Place a legal hold on a customer",
        description="Administrators only. Nothing of the customer expires or is erased from now"
        " on.",
        parameters=[CUSTOMER_ID],
        request=shapes.HoldWriteSerializer,
        responses={201: shapes.HoldSerializer},
    )
    def post(self, request: Request, customer_id: str) -> Response:  # noqa: ARG002
        """Place the hold."""
        return _place(request, self.customer)

    @extend_schema(
        operation_id="customers_hold_lift",
        summary="Lift the legal hold on a customer",
        parameters=[CUSTOMER_ID],
        responses={204: None},
    )
    def delete(self, request: Request, customer_id: str) -> Response:  # noqa: ARG002
        """Lift the hold; 404 if there is none."""
        return _lift(request, LegalHold.objects.filter(customer=self.customer).first())


class ClusterHoldView(ClusterScopedView):
    """The legal hold on one cluster."""

    body_methods = frozenset({"POST"})
    rights: ClassVar[dict[str, ClusterPermission]] = {
        "POST": "view_cluster",
        "DELETE": "view_cluster",
    }

    @extend_schema(
        operation_id="clusters_hold_place",
        summary="Place a legal hold on a cluster",
        description="Administrators only. Nothing of the cluster expires or is erased from now on.",
        parameters=[CLUSTER_ID],
        request=shapes.HoldWriteSerializer,
        responses={201: shapes.HoldSerializer},
    )
    def post(self, request: Request, cluster_id: str) -> Response:  # noqa: ARG002
        """Place the hold."""
        access.require_manage_retention(request_user(request))
        return _place(request, self.cluster)

    @extend_schema(
        operation_id="clusters_hold_lift",
        summary="Lift the legal hold on a cluster",
        parameters=[CLUSTER_ID],
        responses={204: None},
    )
    def delete(self, request: Request, cluster_id: str) -> Response:  # noqa: ARG002
        """Lift the hold; 404 if the cluster itself has none."""
        access.require_manage_retention(request_user(request))
        return _lift(request, LegalHold.objects.filter(cluster=self.cluster).first())


def _place(request: Request, target: Customer | Cluster) -> Response:
    sent = valid(shapes.HoldWriteSerializer(data=request.data))
    hold = legal_holds.place(target, reason=sent["reason"], actor=request_user(request))
    body = shapes.HoldSerializer(_holds([hold], request_user(request))[0]).data
    return Response(body, status=status.HTTP_201_CREATED)


def _lift(request: Request, hold: LegalHold | None) -> Response:
    if hold is None:
        raise NotFoundError("There is no legal hold on it.")
    legal_holds.lift(hold, actor=request_user(request))
    return Response(status=status.HTTP_204_NO_CONTENT)


def _holds(rows: list[LegalHold], user: User) -> list[dict[str, Any]]:
    """Return holds as the caller may see them: customers do not see the reason and the user."""
    all_of_it = access.sees_all(user)
    return [
        {
            "on": "customer" if hold.customer else "cluster",
            "name": str(hold.customer or hold.cluster),
            "placed_at": hold.placed_at,
            "placed_by": hold.placed_by if all_of_it else None,
            "reason": hold.reason if all_of_it else None,
        }
        for hold in rows
    ]


def _retention_of(customer: Customer, user: User) -> dict[str, Any]:
    chosen = in_force.class_of(customer.pk)
    return {
        "customer_id": customer.pk,
        "customer": customer.name,
        "retention_class": chosen,
        "limits": complete(chosen.limits),
        "legal_holds": _holds(legal_holds.standing_on(customer), user),
    }


def _with_customers(row: RetentionClass) -> dict[str, Any]:
    users = CustomerRetention.objects.filter(retention_class=row).order_by("customer__name")
    return {
        "id": row.pk,
        "name": row.name,
        "is_default": row.is_default,
        "limits": row.limits,
        "customers": list(users.values_list("customer__name", flat=True)),
    }


def _class(class_id: str) -> RetentionClass:
    row = RetentionClass.objects.filter(pk=int(class_id)).first()
    if row is None:
        raise NotFoundError("There is no such retention class.")
    return row
