"""Sign-ins, failed ones and sign-outs, as lines of the audit log.

Connected to Django's authentication signals, which every way of signing in sends: they are the
only interface that all of them share.
"""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import AbstractBaseUser
from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.http import HttpRequest

from clusters import audit
from opscenter.core.text import one_line


def connect() -> None:
    """Start to listen; called once, when the application is ready."""
    user_logged_in.connect(_signed_in, dispatch_uid="audit.sign_in")
    user_logged_out.connect(_signed_out, dispatch_uid="audit.sign_out")
    user_login_failed.connect(_refused, dispatch_uid="audit.sign_in_refused")


def _signed_in(request: HttpRequest | None, user: AbstractBaseUser, **_: Any) -> None:
    # Tests and commands sign in without a request; nobody came in then.
    if request is not None and _address(request):
        audit.record("user.sign_in", actor=user, detail={"from": _address(request)})


def _signed_out(request: HttpRequest | None, user: AbstractBaseUser | None, **_: Any) -> None:
    if request is not None and user is not None:
        audit.record("user.sign_out", actor=user, detail={"from": _address(request)})


def _refused(credentials: dict[str, Any], request: HttpRequest | None = None, **_: Any) -> None:
    name = one_line(str(credentials.get("username") or credentials.get("email") or ""), 150)
    detail = {"user": name, "from": _address(request)}
    audit.record("user.sign_in", actor="visitor", ok=False, detail=detail)


def _address(request: HttpRequest | None) -> str:
    return "" if request is None else one_line(str(request.META.get("REMOTE_ADDR", "")), 60)
