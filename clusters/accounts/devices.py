"""Devices that signed in before: a signed cookie that names the account.

It opens nothing. It only tells the owner's device from those of strangers whose guesses have used
up an account's budget of wrong passwords.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

from django.conf import settings
from django.contrib.auth.models import User
from django.core.signing import BadSignature, TimestampSigner
from django.http import HttpRequest, HttpResponse

MAX_AGE_SECONDS = 90 * 86_400
_SALT = "opscenter.known-device"
View = Callable[..., HttpResponse]


def cookie_name() -> str:
    """Return the name of the cookie; behind TLS it is bound to this host."""
    return "__Host-opscenter-device" if settings.SECURE else "opscenter-device"


def knows_account(request: HttpRequest, username: str) -> bool:
    """Return whether the account signed in on this device within :data:`MAX_AGE_SECONDS`."""
    return _account(request) == username.casefold() != ""


def remembers_device(view: View) -> View:
    """Decorate a view that signs in: the device is remembered if somebody did."""

    @wraps(view)
    def wrapped(request: HttpRequest, *args: object, **kwargs: object) -> HttpResponse:
        response = view(request, *args, **kwargs)
        user = request.user
        if request.method == "POST" and isinstance(user, User) and user.is_authenticated:
            _remember(response, user.get_username())
        return response

    return wrapped


def _remember(response: HttpResponse, username: str) -> None:
    response.set_cookie(
        cookie_name(),
        TimestampSigner(salt=_SALT).sign(username.casefold()),
        max_age=MAX_AGE_SECONDS,
        secure=settings.SECURE,
        httponly=True,
        samesite="Lax",
    )


def _account(request: HttpRequest) -> str:
    """Return the account that a device's cookie names; "" if it has none that is ours."""
    signed = request.COOKIES.get(cookie_name(), "")
    try:
        return TimestampSigner(salt=_SALT).unsign(signed, max_age=MAX_AGE_SECONDS)
    except BadSignature:
        return ""
