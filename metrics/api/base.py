"""Common to endpoints of one customer: looking it up, and checking input."""

from __future__ import annotations

from typing import Any, ClassVar, cast
from uuid import UUID

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter
from rest_framework import serializers
from rest_framework.exceptions import MethodNotAllowed
from rest_framework.request import Request

from clusters import access
from clusters.api.base import request_user
from clusters.models import Customer
from opscenter.core.errors import NotFoundError
from opscenter.core.query_parameters import StrictQueryView

CUSTOMER_ID = OpenApiParameter(
    "customer_id", OpenApiTypes.UUID, OpenApiParameter.PATH, description="The customer."
)
CUSTOMER_PATH = r"customers/(?P<customer_id>[0-9a-fA-F-]{36})"


class CustomerScopedView(StrictQueryView):
    """An endpoint of one customer, which is looked up before any handler runs.

    GET is for users who may see the customer, the methods in ``keeper_methods`` for administrators.
    """

    methods: ClassVar[tuple[str, ...]] = ("GET",)
    keeper_methods: ClassVar[tuple[str, ...]] = ()
    customer: Customer

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Check the caller's permission, then set ``self.customer``.

        Raises:
            MethodNotAllowed: the method is not declared.
            NotFoundError: the caller may not see the customer.
            ForbiddenError: a change by a user who is not an administrator.
        """
        super().initial(request, *args, **kwargs)
        method = "GET" if request.method == "HEAD" else str(request.method)
        if method not in (*self.methods, *self.keeper_methods):
            raise MethodNotAllowed(method)
        self.customer = access.get_customer(request_user(request), kwargs["customer_id"])
        if method in self.keeper_methods:
            access.require_manage_retention(request_user(request))


def as_uuid(text: str) -> UUID:
    """Return an id from a path.

    Raises:
        NotFoundError: it is not a valid id.
    """
    try:
        return UUID(text)
    except ValueError as exc:
        raise NotFoundError("Not found.") from exc


def valid(serializer: serializers.Serializer[Any]) -> dict[str, Any]:
    """Return the checked input.

    Raises:
        ValidationError: naming each invalid field.
    """
    serializer.is_valid(raise_exception=True)
    return cast("dict[str, Any]", dict(serializer.validated_data))
