"""How clients of Prometheus send an API token: as a bearer, or as the password of a user."""

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

    The user name of Basic is not looked at: the token says whose it is.
    """

    def authenticate(self, request: Request) -> tuple[User, ApiToken] | None:
        """Return the token's user and the token; None where no token was sent.

        Raises:
            AuthenticationFailed: the header is malformed or the token is not good.
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
        """Return what a refusal asks for."""
        return 'Bearer realm="Ops Center"'


def _password(credentials: bytes) -> bytes:
    try:
        text = base64.b64decode(credentials, validate=True)
    except binascii.Error as exc:
        raise AuthenticationFailed("Malformed Basic credentials.") from exc
    return text.partition(b":")[2]
