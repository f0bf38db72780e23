"""API tokens: whose they are, when they were last used, and what a read-only one may do."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django.contrib.auth.models import User
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from knox.auth import TokenAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request

from clusters.accounts.token_use import note_use
from clusters.models import ApiToken


class ApiTokenAuthentication(TokenAuthentication):  # type: ignore[misc]
    """``Authorization: Token opc_...``; 401 if it is expired, unknown or an inactive user's."""

    def authenticate_credentials(self, token: bytes) -> tuple[User, ApiToken]:
        """Return the token's user and the token. Writes nothing: a worker records the use.

        Raises:
            AuthenticationFailed: if the token is not valid.
        """
        if not token.isascii():
            raise AuthenticationFailed("Invalid token.")
        user, found = super().authenticate_credentials(token)
        note_use(found, datetime.now(UTC))
        return user, found

    def _cleanup_token(self, auth_token: ApiToken) -> bool:
        """Return whether a token has expired; knox would delete it, and the user's other ones."""
        return auth_token.expiry is not None and auth_token.expiry < datetime.now(UTC)


class ReadOnlyTokensOnlyRead(BasePermission):
    """A read-only token may GET and HEAD; sessions and other tokens are not affected."""

    message = "This token is read-only."

    def has_permission(self, request: Request, view: Any) -> bool:  # noqa: ARG002
        """Return False for a writing method with a read-only token."""
        token = request.auth
        if not isinstance(token, ApiToken) or not token.read_only:
            return True
        return request.method in SAFE_METHODS


class ApiTokenScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """How the schema describes the tokens."""

    target_class = ApiTokenAuthentication
    name = "token"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:  # noqa: ARG002
        """Return the OpenAPI security scheme."""
        return {
            "type": "apiKey",
            "in": "header",
            "name": "Authorization",
            "description": "`Token opc_...`, made by `manage.py create_token NAME --user USER`.",
        }
