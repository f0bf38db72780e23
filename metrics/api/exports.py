"""Endpoints about exports: request one, see its progress, download the file, delete it."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import serializers, status
from rest_framework.generics import GenericAPIView
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.request import Request
from rest_framework.response import Response

from clusters import access
from clusters.api.base import paged, request_user
from clusters.api.serializers import OptionalIdField
from clusters.models import Cluster, Customer
from metrics.api.base import as_uuid
from metrics.exports import jobs
from metrics.models import Export
from opscenter.core.downloads import file_response
from opscenter.core.errors import ConflictError, NotFoundError
from opscenter.core.query_parameters import StrictQueryView
from opscenter.core.request_bodies import StrictSerializer

EXPORT_ID = OpenApiParameter("export_id", OpenApiTypes.UUID, OpenApiParameter.PATH)
EXPORT_PATH = r"exports/(?P<export_id>[0-9a-fA-F-]{36})"
_LATEST = 2**40
_SENDS_BYTES = (status.HTTP_200_OK, status.HTTP_206_PARTIAL_CONTENT)


class ExportWriteSerializer(StrictSerializer):
    """What to export: either a customer or a cluster."""

    customer_id = OptionalIdField()
    cluster_id = OptionalIdField()
    format = serializers.ChoiceField(choices=Export.Format.choices)
    start = serializers.IntegerField(
        default=0, min_value=0, max_value=_LATEST, help_text="Unix seconds, included."
    )
    end = serializers.IntegerField(
        default=None,
        allow_null=True,
        min_value=1,
        max_value=_LATEST,
        help_text="Unix seconds, excluded; null: now.",
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Return the values.

        Raises:
            ValidationError: both or neither of customer and cluster are given.
        """
        if (attrs["customer_id"] is None) == (attrs["cluster_id"] is None):
            raise serializers.ValidationError(
                {"cluster_id": ["Give either cluster_id or customer_id."]}
            )
        return attrs


class ExportSerializer(serializers.Serializer[Any]):
    """An export. Its file can be downloaded while the state is ``ready``, for seven days."""

    id = serializers.UUIDField()
    customer_id = serializers.UUIDField(allow_null=True)
    cluster_id = serializers.UUIDField(allow_null=True)
    format = serializers.ChoiceField(choices=Export.Format.choices)
    start = serializers.IntegerField(help_text="Unix seconds, included.")
    end = serializers.IntegerField(help_text="Unix seconds, excluded.")
    state = serializers.ChoiceField(choices=Export.State.choices)
    done_ratio = serializers.FloatField(help_text="0..1, about.")
    step = serializers.CharField(help_text="What is written now.")
    rows = serializers.IntegerField()
    size_bytes = serializers.IntegerField(help_text="Of the file; 0 until it is ready.")
    problem = serializers.CharField(help_text="Why it failed.")
    requested_by = serializers.CharField()
    requested_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField(allow_null=True)


class ExportListView(StrictQueryView, GenericAPIView[Any]):
    """The exports of customers and clusters that the caller may see."""

    body_methods = frozenset({"POST"})
    serializer_class = ExportSerializer
    filter_backends = ()

    @extend_schema(
        operation_id="exports_list",
        summary="List exports, newest first",
        responses=ExportSerializer(many=True),
    )
    def get(self, request: Request) -> Response:
        """Return a page of exports."""
        return paged(self, list(jobs.visible(request_user(request))), ExportSerializer)

    @extend_schema(
        operation_id="exports_create",
        summary="Ask for an export of a customer or a cluster",
        description="For who sees it. 409 while one of the same target is under way.",
        request=ExportWriteSerializer,
        responses={201: ExportSerializer},
    )
    def post(self, request: Request) -> Response:
        """Request it; a worker writes the file."""
        serializer = ExportWriteSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        sent = serializer.validated_data
        target: Customer | Cluster
        if sent["cluster_id"] is not None:
            target = access.get_cluster(request_user(request), sent["cluster_id"])
        else:
            target = access.get_customer(request_user(request), sent["customer_id"])
        export = jobs.request(
            target,
            form=sent["format"],
            start=sent["start"],
            end=sent["end"],
            actor=request_user(request),
        )
        return Response(ExportSerializer(export).data, status=status.HTTP_201_CREATED)


class ExportDetailView(StrictQueryView):
    """One export."""

    @extend_schema(
        operation_id="exports_get",
        summary="Get how far an export is",
        parameters=[EXPORT_ID],
        responses=ExportSerializer,
    )
    def get(self, request: Request, export_id: str) -> Response:
        """Return the export."""
        return Response(ExportSerializer(visible_export(request, export_id)).data)

    @extend_schema(
        operation_id="exports_delete",
        summary="Delete an export and its file",
        description="For who asked for it, and for who may act on what it holds.",
        parameters=[EXPORT_ID],
        responses={204: None},
    )
    def delete(self, request: Request, export_id: str) -> Response:
        """Delete it; one that is running stops."""
        jobs.remove(visible_export(request, export_id), actor=request_user(request))
        return Response(status=status.HTTP_204_NO_CONTENT)


class AnyType(BaseContentNegotiation):
    """Always answers in the only type, whatever the client accepts."""

    def select_parser(self, request: Request, parsers: Any) -> Any:  # noqa: ARG002
        """Return the first parser."""
        return parsers[0]

    def select_renderer(
        self,
        request: Request,  # noqa: ARG002
        renderers: Any,
        format_suffix: str | None = None,  # noqa: ARG002
    ) -> Any:
        """Return the first renderer, for errors."""
        return renderers[0], renderers[0].media_type


class ExportFileView(StrictQueryView):
    """The file of one export."""

    content_negotiation_class = AnyType

    @extend_schema(
        operation_id="exports_file",
        summary="Fetch the file of an export: a zip of Parquet or CSV files",
        description="`Range` is answered, so that a download can go on where it broke off. 409"
        " until it is ready.",
        parameters=[EXPORT_ID],
        responses={(200, "application/zip"): OpenApiResponse(OpenApiTypes.BINARY)},
    )
    def get(self, request: Request, export_id: str) -> HttpResponseBase:
        """Return the file; each download is recorded in the audit log."""
        return download(request, visible_export(request, export_id), request_user(request))


def visible_export(request: Request, export_id: str) -> Export:
    """Return an export that the caller may see.

    Raises:
        NotFoundError: there is none.
    """
    found = jobs.visible(request_user(request)).filter(pk=as_uuid(export_id)).first()
    if found is None:
        raise NotFoundError("Not found.")
    return found


def download(request: HttpRequest | Request, export: Export, user: Any) -> HttpResponseBase:
    """Return the file of an export, or the part that the request's ``Range`` names.

    Whatever sends bytes is recorded; parts that are fetched one after the other are one download.

    Args:
        request: a GET, or a HEAD, which sends nothing.
        export: an export that the user may see.
        user: the user who downloads it.

    Raises:
        ConflictError: it is not ready.
        NotFoundError: the file is gone.
    """
    if export.state != Export.State.READY:
        raise ConflictError(f"The export is {export.get_state_display()}, there is no file.")
    range_header = request.headers.get("Range", "")
    of = export.customer or export.cluster
    clean = "".join(char if char.isascii() and char.isalnum() else "-" for char in str(of))
    name = f"{clean.strip('-')[:60] or 'export'}-{export.requested_at:%Y%m%d}-{export.format}.zip"
    try:
        response = file_response(
            jobs.path_of(export),
            name=name,
            content_type="application/zip",
            range_header=range_header,
        )
    except FileNotFoundError as exc:
        raise NotFoundError("The file is gone; ask for a new export.") from exc
    if request.method == "GET" and response.status_code in _SENDS_BYTES:
        jobs.record_download(export, actor=user, range_header=range_header)
    return response
