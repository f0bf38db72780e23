"""Retention classes: their limits, their customers, and what a change would delete."""

from __future__ import annotations

from typing import Any, cast

from django.contrib import messages
from django.contrib.auth.models import User
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from clusters import access
from clusters.models import Customer
from metrics.deletion.preview import Effect, effect_of_change
from metrics.models import Erasure, RetentionClass
from metrics.retention import services
from metrics.retention.grace import GRACE_SECONDS
from metrics.retention.rules import complete
from metrics.retention.selectors import customer_summaries
from metrics.series.catalog import KINDS, TIERS, default_limits
from opscenter.core.errors import InvalidInputError
from opscenter.pages.base import page
from opscenter.pages.retention_forms import ClassForm, initial_of

ERASURES = 10


@page
def overview(request: HttpRequest) -> HttpResponse:
    """Show every class and which customer has which, with the holds in force."""
    access.require_sees_all(request.user)
    customers = customer_summaries(Customer.objects.all())
    rows = list(RetentionClass.objects.all())
    for row in rows:
        row.limits = complete(row.limits)
    erasures = list(Erasure.objects.all()[:ERASURES])
    context = {
        "classes": [
            (row, [one for one in customers if one.retention_class.pk == row.pk]) for row in rows
        ],
        "customers": customers,
        "tiers": list(TIERS),
        "kinds": KINDS,
        "erasures": erasures,
        "erasing": any(one.state == Erasure.State.RUNNING for one in erasures),
        "may_change": access.may_manage_retention(request.user),
        "section": "retention",
    }
    return render(request, "retention/overview.html", context)


@page
@require_http_methods(["GET", "HEAD", "POST"])
def add_class(request: HttpRequest) -> HttpResponse:
    """Make a class: it deletes nothing, as nobody has it yet."""
    access.require_manage_retention(request.user)
    form = ClassForm(
        request.POST or None, initial=initial_of("", default_limits(), is_default=False)
    )
    del form.fields["is_default"]
    if request.method == "POST" and form.is_valid():
        try:
            row = services.create_class(
                name=form.cleaned_data["name"], limits=form.limits, actor=_user(request)
            )
        except InvalidInputError as exc:
            _add_error(form, exc)
        else:
            messages.success(request, f"Class {row.name} added. It can be assigned now.")
            return redirect("retention")
    return _form_page(request, form, None)


@page
@require_http_methods(["GET", "HEAD", "POST"])
def change_class(request: HttpRequest, class_id: int) -> HttpResponse:
    """Change a class in two steps: show what that deletes, then save it."""
    access.require_manage_retention(request.user)
    row = _class(class_id)
    limits = complete(row.limits)
    shown = initial_of(row.name, limits, is_default=row.is_default)
    form = ClassForm(request.POST or None, initial=shown)
    if row.is_default:
        form.fields["is_default"].disabled = True
    if request.method != "POST" or not form.is_valid():
        return _form_page(request, form, row)
    changed = form.cleaned_data["is_default"] or row.is_default
    effect = effect_of_change(row, form.limits, is_default=changed)
    if request.POST.get("step") != "save":
        return _form_page(request, form, row, effect)
    try:
        services.change_class(
            row,
            name=form.cleaned_data["name"],
            limits=form.limits,
            is_default=True if changed else None,
            actor=_user(request),
        )
    except InvalidInputError as exc:
        _add_error(form, exc)
        return _form_page(request, form, row)
    waits = " Data past the shorter limits is deleted in 24 hours." if effect.losses else ""
    messages.success(request, f"Class {row.name} saved.{waits}")
    return redirect("retention")


@page
@require_http_methods(["POST"])
def delete_class(request: HttpRequest, class_id: int) -> HttpResponse:
    """Delete a class that nobody has."""
    access.require_manage_retention(request.user)
    row = _class(class_id)
    name = row.name
    try:
        services.delete_class(row, actor=_user(request))
    except InvalidInputError as exc:
        messages.error(request, str(exc).partition(": ")[2])
        return redirect("retention_class", class_id=class_id)
    messages.success(request, f"Class {name} deleted.")
    return redirect("retention")


def _form_page(
    request: HttpRequest,
    form: ClassForm,
    row: RetentionClass | None,
    effect: Effect | None = None,
) -> HttpResponse:
    context: dict[str, Any] = {
        "form": form,
        "row": row,
        "effect": effect,
        "tiers": list(TIERS),
        "grace_seconds": GRACE_SECONDS,
        "section": "retention",
    }
    status = 422 if form.errors else 200
    return render(request, "retention/class.html", context, status=status)


def _class(class_id: int) -> RetentionClass:
    row = RetentionClass.objects.filter(pk=class_id).first()
    if row is None:
        raise Http404
    return row


def _add_error(form: ClassForm, exc: InvalidInputError) -> None:
    field, _, message = str(exc).partition(": ")
    form.add_error(field if field in form.fields else None, message or str(exc))


def _user(request: HttpRequest) -> User:
    return cast("User", request.user)
