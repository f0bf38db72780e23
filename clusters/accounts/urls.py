"""The account pages that exist: sign in and out, one's own password and second factor.

The rest of allauth is closed: nobody signs up, and nothing depends on mail, which a centre may not
be able to send. A forgotten password is set by an administrator (admin, ``manage.py
changepassword``). Those closed names that allauth itself looks up stay; they answer 404.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from allauth.account import views
from allauth.mfa.base import views as mfa_views
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import include, path

from clusters.accounts.attempts import OWN_PASSWORDS, SIGN_INS, address_group
from clusters.accounts.devices import remembers_device
from opscenter.core.budgets import Rate

View = Callable[..., HttpResponse]


def closed(request: HttpRequest, **_: Any) -> HttpResponse:
    """Answer 404.

    Raises:
        Http404: always.
    """
    del request
    raise Http404


def counted(view: View, rate: Rate, holder: Callable[[HttpRequest], object]) -> View:
    """Count what is sent to a view; opening it is free."""

    @wraps(view)
    def wrapped(request: HttpRequest, *args: object, **kwargs: object) -> HttpResponse:
        if request.method == "POST":
            rate.spend(holder(request))
        return view(request, *args, **kwargs)

    return wrapped


def _user(request: HttpRequest) -> object:
    return request.user.pk  # None for strangers, who are sent to the sign-in


_login = counted(remembers_device(views.login), SIGN_INS, address_group)
_code = counted(remembers_device(mfa_views.authenticate), SIGN_INS, address_group)
_reauthenticate = counted(views.reauthenticate, OWN_PASSWORDS, _user)
_change_password = counted(views.password_change, OWN_PASSWORDS, _user)

urlpatterns = [
    path("login/", _login, name="account_login"),
    path("logout/", views.logout, name="account_logout"),
    path("inactive/", views.account_inactive, name="account_inactive"),
    path("reauthenticate/", _reauthenticate, name="account_reauthenticate"),
    path("password/change/", _change_password, name="account_change_password"),
    path("2fa/authenticate/", _code, name="mfa_authenticate"),
    path("2fa/", include("allauth.mfa.urls")),
    path("signup/", closed, name="account_signup"),
    path("email/", closed, name="account_email"),
    path("confirm-email/", closed, name="account_email_verification_sent"),
    path("confirm-email/<str:key>/", closed, name="account_confirm_email"),
    path("password/set/", closed, name="account_set_password"),
]
