"""The OpenAPI schema's common part: every operation may answer with the one error shape."""

from __future__ import annotations

import threading
from typing import Any, ClassVar

from drf_spectacular.generators import SchemaGenerator

_METHODS = ("get", "post", "put", "patch", "delete")
_ERROR: dict[str, Any] = {
    "type": "object",
    "description": "The one error shape.",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message", "fields"],
            "properties": {
                "code": {"type": "string", "description": "Stable, for programs."},
                "message": {"type": "string", "description": "For people."},
                "fields": {
                    "type": "object",
                    "additionalProperties": True,
                    "description": "The invalid input fields, each with the reasons.",
                },
                "request_id": {
                    "type": "string",
                    "description": "With 5XX: the request in Ops Center's log, as in the header"
                    " X-Request-ID of every answer.",
                },
            },
        }
    },
}
_TEXTS = {
    "400": "The input is invalid, or a query parameter or a key is unknown; `fields` names which.",
    "401": "Not signed in, or the token is not valid.",
    "403": "Visible, but not allowed; or a read-only token.",
    "404": "There is none, or you may not see it: the two look the same.",
    "409": "The name is taken.",
    "5XX": "Something went wrong here, or the metric store is away.",
    "4XX": "Another refusal: method, media type, size, rate.",
}


def add_errors(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Add the error answers to every operation that answers with JSON."""
    result.setdefault("components", {}).setdefault("schemas", {})["Error"] = _ERROR
    for path, operations in result["paths"].items():
        for method in _METHODS:
            if method in operations:
                _add(operations[method], has_id="{" in path, method=method)
    return result


def _add(operation: dict[str, Any], *, has_id: bool, method: str) -> None:
    wanted = {"400", "403", "4XX", "5XX"}
    if operation.get("security") or operation.get("security") is None:
        wanted.add("401")
    if has_id or operation.get("parameters"):
        wanted.add("404")
    if method in ("post", "patch") and operation.get("requestBody"):
        wanted.add("409")
    for status in sorted(wanted):
        content = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
        answer = {"description": _TEXTS[status], "content": content}
        operation["responses"].setdefault(status, answer)


class SharedSchemaGenerator(SchemaGenerator):
    """Makes the schema once: that takes a second or more, and anybody may ask for it.

    It is the same for everybody: it depends neither on the user nor on a version.
    """

    _lock: ClassVar[threading.Lock] = threading.Lock()
    _made: ClassVar[dict[bool, dict[str, Any]]] = {}  # by whether it is public

    def __init__(self, *arguments: Any, **named: Any) -> None:
        named["api_version"] = None
        super().__init__(*arguments, **named)  # type: ignore[no-untyped-call]

    def get_schema(self, request: Any = None, public: bool = False) -> dict[str, Any]:  # noqa: FBT001, FBT002 - the library's signature
        """Return the schema; those who ask while it is made wait for it."""
        with self._lock:
            if public not in self._made:
                made = super().get_schema(request, public)  # type: ignore[no-untyped-call]
                self._made[public] = made
            return self._made[public]
