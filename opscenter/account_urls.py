"""The account pages that exist: sign in and out, one's own password and second factor.

The rest of allauth is closed: nobody signs up, and nothing depends on mail, which a centre may not
be able to send. A forgotten password is set by an administrator (admin, ``manage.py
changepassword``). Those closed names that allauth itself looks up stay; they answer 404.
"""

from __future__ import annotations

from typing import Any

from allauth.account import views
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import include, path


def closed(request: HttpRequest, **_: Any) -> HttpResponse:
    """Answer 404.

    Raises:
        Http404: always.
    """
    del request
    raise Http404


urlpatterns = [
    path("login/", views.login, name="account_login"),
    path("logout/", views.logout, name="account_logout"),
    path("inactive/", views.account_inactive, name="account_inactive"),
    path("reauthenticate/", views.reauthenticate, name="account_reauthenticate"),
    path("password/change/", views.password_change, name="account_change_password"),
    path("2fa/", include("allauth.mfa.urls")),
    path("signup/", closed, name="account_signup"),
    path("email/", closed, name="account_email"),
    path("confirm-email/", closed, name="account_email_verification_sent"),
    path("confirm-email/<str:key>/", closed, name="account_confirm_email"),
    path("password/set/", closed, name="account_set_password"),
]
