"""Bodies of the REST API's requests, read strictly: no key is ignored.

If an unknown one were, a misspelt ``dry-run`` would carry out what it should only have shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from drf_spectacular.extensions import OpenApiSerializerExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import Direction
from rest_framework import exceptions, serializers
from rest_framework.request import Request

from opscenter.core.text import one_line

_SHOWN_NAME, _SHOWN_KEYS = 100, 20  # characters and number of unknown keys


class StrictSerializer(serializers.Serializer[Any]):
    """Input of an endpoint; a key that is no field of it is an error of that name."""

    def to_internal_value(self, data: Any) -> Any:
        """Return the checked values.

        Raises:
            ValidationError: naming each unknown key beside each invalid field.
        """
        unknown = _unknown(set(data) - set(self.fields)) if isinstance(data, Mapping) else {}
        try:
            values = super().to_internal_value(data)
        except exceptions.ValidationError as exc:
            if not unknown or not isinstance(exc.detail, dict):
                raise
            raise exceptions.ValidationError({**unknown, **exc.detail}) from exc
        if unknown:
            raise exceptions.ValidationError(unknown)
        return values


class StrictSerializerSchema(OpenApiSerializerExtension):  # type: ignore[no-untyped-call]
    """Says in the OpenAPI schema that a strict body has no other keys."""

    target_class = StrictSerializer
    match_subclasses = True

    def map_serializer(self, auto_schema: AutoSchema, direction: Direction) -> dict[str, Any]:
        """Return the schema of the fields, closed to others."""
        schema = auto_schema._map_serializer(self.target, direction, bypass_extensions=True)  # type: ignore[no-untyped-call]
        return {**schema, "additionalProperties": False}


def require_no_body(request: Request) -> None:
    """Check that a request whose endpoint takes no body has none, or an empty one.

    Raises:
        ValidationError: naming each key of it.
        ParseError, UnsupportedMediaType: it cannot be read at all.
    """
    data = request.data
    if isinstance(data, Mapping):
        if data:
            raise exceptions.ValidationError(_unknown(data))
    elif data:
        raise exceptions.ValidationError({"non_field_errors": ["Send no body here."]})


def _unknown(keys: Iterable[Any]) -> dict[str, Any]:
    shown = (one_line(str(key), _SHOWN_NAME) or "?" for key in sorted(keys, key=str)[:_SHOWN_KEYS])
    return {name: ["There is no such field here."] for name in shown}
