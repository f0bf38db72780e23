"""The one base class of every endpoint below a cluster, and what all endpoints share."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar, cast

from django.contrib.auth.models import User
from django.db.models import QuerySet
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter
from rest_framework import serializers
from rest_framework.exceptions import MethodNotAllowed
from rest_framework.generics import GenericAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from clusters import access
from clusters.access import ClusterPermission
from clusters.models import Cluster
from opscenter.core.query_parameters import StrictQueryView

CLUSTER_ID = OpenApiParameter(
    "cluster_id", OpenApiTypes.UUID, OpenApiParameter.PATH, description="The cluster."
)
CLUSTER_PATH = r"clusters/(?P<cluster_id>[0-9a-fA-F-]{36})"
"""Regular expression of a cluster's path. Endpoints end in ``/?$``: both forms work, without a
redirect that would lose the query or the body."""


class ClusterScopedView(StrictQueryView):
    """An endpoint of one cluster, which is looked up before any handler runs.

    A method without an entry in ``rights`` is refused before the lookup, so that it answers the
    same for every id.
    """

    rights: ClassVar[dict[str, ClusterPermission]] = {"GET": "view_cluster"}
    cluster: Cluster
    now: datetime

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Authenticate the user, then set ``self.cluster`` if the method is allowed on it.

        Raises:
            ValidationError: for an unknown query parameter.
            MethodNotAllowed: for a method that has no declared right.
            NotFoundError: for a cluster that the user does not see.
            ForbiddenError: for one that the user sees but may not do this with.
        """
        super().initial(request, *args, **kwargs)
        self.now = datetime.now(UTC)
        method = "GET" if request.method == "HEAD" else str(request.method)
        if method not in self.rights:
            raise MethodNotAllowed(method)
        self.cluster = access.get_cluster(
            request_user(request), kwargs["cluster_id"], self.rights[method]
        )

    @property
    def unix_now(self) -> int:
        """Return the moment of the request in Unix seconds."""
        return int(self.now.timestamp())


def paged(
    view: GenericAPIView[Any], items: Sequence[Any], serializer: type[serializers.Serializer[Any]]
) -> Response:
    """Return the requested page of a list that is in memory already."""
    # Django pages any sequence; the stubs know querysets only.
    page = view.paginate_queryset(cast("QuerySet[Any]", items))
    return view.get_paginated_response(serializer(page, many=True).data)


def request_user(request: Request) -> User:
    """Return the signed-in user of a request that passed ``IsAuthenticated``."""
    user = request.user
    if not isinstance(user, User):
        msg = "an endpoint without IsAuthenticated asked for its user"
        raise TypeError(msg)
    return user
