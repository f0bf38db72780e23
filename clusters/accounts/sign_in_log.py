"""Sign-ins, failed ones, sign-outs and changed credentials, as lines of the audit log.

Connected to Django's authentication signals, which every way of signing in sends: they are the
only interface that all of them share.
"""

from __future__ import annotations

from typing import Any

from allauth.account.signals import password_changed
from allauth.mfa import signals as mfa_signals
from axes.signals import user_locked_out
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
    password_changed.connect(_password_changed, dispatch_uid="audit.password")
    user_locked_out.connect(_locked_out, dispatch_uid="audit.locked_out")
    mfa_signals.authenticator_added.connect(_factor_added, dispatch_uid="audit.factor_added")
    mfa_signals.authenticator_removed.connect(_factor_removed, dispatch_uid="audit.factor_removed")
    mfa_signals.authenticator_reset.connect(_factor_reset, dispatch_uid="audit.factor_reset")
    mfa_signals.authentication_failed.connect(_factor_refused, dispatch_uid="audit.factor_refused")


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


def _locked_out(request: HttpRequest | None, username: str | None = None, **_: Any) -> None:
    detail = {"user": one_line(username or "", 150), "from": _address(request)}
    audit.record("user.lock_out", actor="visitor", ok=False, detail=detail)


def _password_changed(request: HttpRequest, user: AbstractBaseUser, **_: Any) -> None:
    audit.record("user.password", actor=user, detail={"from": _address(request)})


def _factor_added(**kwargs: Any) -> None:
    _factor("add", **kwargs)


def _factor_removed(**kwargs: Any) -> None:
    _factor("remove", **kwargs)


def _factor_reset(**kwargs: Any) -> None:
    _factor("reset", **kwargs)


def _factor_refused(**kwargs: Any) -> None:
    _factor("use", ok=False, **kwargs)


def _factor(
    verb: str,
    *,
    user: AbstractBaseUser,
    request: HttpRequest | None = None,
    authenticator: Any = None,
    ok: bool = True,
    **_: Any,
) -> None:
    kind = str(getattr(authenticator, "type", ""))
    detail = {"kind": kind, "from": _address(request)}
    audit.record(f"second_factor.{verb}", actor=user, ok=ok, detail=detail)


def _address(request: HttpRequest | None) -> str:
    return "" if request is None else one_line(str(request.META.get("REMOTE_ADDR", "")), 60)
