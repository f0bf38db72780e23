"""Endpoints about the erasure of a customer: begin one, and see its progress."""

from __future__ import annotations

from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import status
from rest_framework.generics import GenericAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from clusters import access
from clusters.api.base import paged, request_user
from metrics.api import retention_serializers as shapes
from metrics.api.base import CUSTOMER_ID, CustomerScopedView, as_uuid, valid
from metrics.deletion import erasure
from metrics.models import Erasure
from opscenter.core.errors import NotFoundError
from opscenter.core.query_parameters import StrictQueryView

ERASURE_ID = OpenApiParameter("erasure_id", OpenApiTypes.UUID, OpenApiParameter.PATH)


class CustomerEraseView(CustomerScopedView):
    """The erasure of one customer."""

    body_methods = frozenset({"POST"})
    methods = ()
    keeper_methods = ("POST",)

    @extend_schema(
        operation_id="customers_erase",
        summary="Erase everything of a customer, for good",
        description="Administrators only. Numbers, ledger, clusters, exports and the customer go;"
        " the audit log stays. 409 under a legal hold. `GET /erasures/{id}/` says how far it is.",
        parameters=[CUSTOMER_ID],
        request=shapes.ErasureWriteSerializer,
        responses={202: shapes.ErasureSerializer},
    )
    def post(self, request: Request, customer_id: str) -> Response:  # noqa: ARG002
        """Begin the erasure."""
        sent = valid(shapes.ErasureWriteSerializer(data=request.data))
        begun = erasure.begin(self.customer, confirm=sent["confirm"], actor=request_user(request))
        return Response(_erasure(begun), status=status.HTTP_202_ACCEPTED)


class ErasureListView(StrictQueryView, GenericAPIView[Any]):
    """Customers that were erased, or are being erased."""

    serializer_class = shapes.ErasureSerializer
    filter_backends = ()

    @extend_schema(
        operation_id="erasures_list",
        summary="List erasures of customers, newest first",
        responses=shapes.ErasureSerializer(many=True),
    )
    def get(self, request: Request) -> Response:
        """Return a page of erasures; for those who see all clusters."""
        access.require_sees_all(request_user(request))
        return paged(self, list(Erasure.objects.all()), shapes.ErasureSerializer)


class ErasureDetailView(StrictQueryView):
    """One erasure."""

    @extend_schema(
        operation_id="erasures_get",
        summary="Get how far an erasure is",
        parameters=[ERASURE_ID],
        responses=shapes.ErasureSerializer,
    )
    def get(self, request: Request, erasure_id: str) -> Response:
        """Return the erasure; for those who see all clusters."""
        access.require_sees_all(request_user(request))
        found = Erasure.objects.filter(pk=as_uuid(erasure_id)).first()
        if found is None:
            raise NotFoundError("There is no such erasure.")
        return Response(_erasure(found))


def _erasure(row: Erasure) -> dict[str, Any]:
    return dict(shapes.ErasureSerializer(row).data)
