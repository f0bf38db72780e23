"""Pages of series: the usual page, with the values' units and time."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from rest_framework.response import Response

from metrics.series.catalog import CATALOG, Kind
from opscenter.core.api import PageNumberPagination


def units_of(kind: Kind) -> dict[str, str]:
    """Return each field's unit."""
    return {field.name: field.unit for field in CATALOG[kind]}


class SeriesPagination(PageNumberPagination):
    """Adds ``as_of`` and ``units``; the view sets both before it pages."""

    as_of: int | None = None
    units: Mapping[str, str] = {}

    def get_paginated_response(self, data: Any) -> Response:
        """Return the page."""
        response = super().get_paginated_response(data)
        moment = None if self.as_of is None else datetime.fromtimestamp(self.as_of, UTC)
        response.data = {"as_of": moment, "units": dict(self.units), **response.data}
        return response

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        """Return the page's schema."""
        page = super().get_paginated_response_schema(schema)
        page["properties"] |= {
            "as_of": {
                "type": ["string", "null"],
                "format": "date-time",
                "description": "End of the cluster's newest data; null before the first.",
            },
            "units": {
                "type": "object",
                "additionalProperties": {"type": "string"},
                "description": "The unit of each field in `values`.",
            },
        }
        page["required"] = [*page["required"], "as_of", "units"]
        return dict(page)
