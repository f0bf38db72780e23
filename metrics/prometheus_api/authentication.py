"""The ways in which clients of Prometheus send an API token: as bearer token, or as a password."""

from __future__ import annotations

import base64
import binascii

from django.contrib.auth.models import User
from rest_framework.authentication import get_authorization_header
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from clusters.api.authentication import ApiTokenAuthentication
from clusters.models import ApiToken


class AnyHeaderAuthentication(ApiTokenAuthentication):
    """``Authorization: Bearer opc_...``, ``Token opc_...``, or Basic with the token as password.

    The user name of Basic is ignored: the token identifies the user.
    """

    def authenticate(self, request: Request) -> tuple[User, ApiToken] | None:
        """Return the token's user and the token; None where no token was sent.

        Raises:
            AuthenticationFailed: the header is malformed or the token is not valid.
        """
        scheme, _, credentials = get_authorization_header(request).partition(b" ")
        token = credentials.strip()
        match scheme.lower():
            case b"bearer" | b"token":
                return self.authenticate_credentials(token)
            case b"basic":
                return self.authenticate_credentials(_password(token))
        return None

    def authenticate_header(self, request: Request) -> str:  # noqa: ARG002
        """Return the ``WWW-Authenticate`` header of a refusal."""
        return 'Bearer realm="Ops Center"'


def _password(credentials: bytes) -> bytes:
    try:
        text = base64.b64decode(credentials, validate=True)
    except binascii.Error as exc:
        raise AuthenticationFailed("Malformed Basic credentials.") from exc
    return text.partition(b":")[2]
