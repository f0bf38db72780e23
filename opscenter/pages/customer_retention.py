"""One customer: how long its data is kept, and its legal holds."""

from __future__ import annotations

from typing import Any, cast
from uuid import UUID

from django.contrib import messages
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from clusters import access, legal_holds
from clusters.models import Cluster, Customer, LegalHold
from metrics.deletion import erasure
from metrics.deletion.preview import effect_of_assigning
from metrics.models import CustomerRetention
from metrics.retention import in_force, services
from metrics.retention.grace import GRACE_SECONDS
from metrics.retention.rules import complete
from metrics.series.catalog import TIERS
from opscenter.core.errors import InvalidInputError
from opscenter.pages.base import page
from opscenter.pages.exports import exports_context
from opscenter.pages.forms import ConfirmForm
from opscenter.pages.retention_forms import ChooseClassForm, HoldForm


@page
def customer_page(request: HttpRequest, customer_id: UUID) -> HttpResponse:
    """Show the retention of a customer; administrators change it here."""
    customer = access.get_customer(request.user, customer_id)
    return _page(request, customer)


@page
@require_http_methods(["POST"])
def choose_class(request: HttpRequest, customer_id: UUID) -> HttpResponse:
    """Assign a class in two steps: show what it deletes, then save it."""
    customer = _kept(request, customer_id)
    form = ChooseClassForm(request.POST, default=in_force.default_class())
    if not form.is_valid():
        return _page(request, customer, class_form=form)
    chosen = form.cleaned_data["retention_class"]
    effect = effect_of_assigning(customer, chosen)
    if request.POST.get("step") != "save":
        return _page(request, customer, class_form=form, effect=effect)
    services.assign(customer, chosen, actor=_user(request))
    waits = " Data past the shorter limits is deleted in 24 hours." if effect.losses else ""
    messages.success(request, f"Retention class of {customer.name} changed.{waits}")
    return redirect("customer", customer_id=customer.pk)


@page
@require_http_methods(["POST"])
def place_hold(request: HttpRequest, customer_id: UUID) -> HttpResponse:
    """Place a legal hold on the customer."""
    customer = _kept(request, customer_id)
    form = HoldForm(request.POST)
    if form.is_valid():
        try:
            legal_holds.place(customer, reason=form.cleaned_data["reason"], actor=_user(request))
        except InvalidInputError as exc:
            form.add_error("reason", str(exc).partition(": ")[2])
        else:
            messages.success(request, f"No data of {customer.name} will be deleted from now on.")
            return redirect("customer", customer_id=customer.pk)
    return _page(request, customer, hold_form=form)


@page
@require_http_methods(["POST"])
def lift_hold(request: HttpRequest, customer_id: UUID) -> HttpResponse:
    """Lift the legal hold on the customer."""
    customer = _kept(request, customer_id)
    hold = LegalHold.objects.filter(customer=customer).first()
    if hold is not None:
        legal_holds.lift(hold, actor=_user(request))
        messages.success(request, "Legal hold lifted. The audit log keeps a record.")
    return redirect("customer", customer_id=customer.pk)


@page
@require_http_methods(["POST"])
def erase(request: HttpRequest, customer_id: UUID) -> HttpResponse:
    """Begin to erase all data of the customer."""
    customer = _kept(request, customer_id)
    form = ConfirmForm(request.POST, expected=customer.name)
    if form.is_valid():
        try:
            erasure.begin(customer, confirm=form.cleaned_data["name"], actor=_user(request))
        except (InvalidInputError, legal_holds.LegalHoldError) as exc:
            form.add_error("name", str(exc).removeprefix("confirm: "))
        else:
            messages.success(request, f"Erasing {customer.name}. Progress is shown below.")
            return redirect("retention")
    return _page(request, customer, erase_form=form)


@page
@require_http_methods(["POST"])
def cluster_hold(request: HttpRequest, cluster_id: UUID) -> HttpResponse:
    """Place a legal hold on a single cluster."""
    cluster = access.get_cluster(request.user, cluster_id)
    access.require_manage_retention(request.user)
    form = HoldForm(request.POST)
    problem = "Give a reason of at most 500 characters."
    if form.is_valid():
        try:
            legal_holds.place(cluster, reason=form.cleaned_data["reason"], actor=_user(request))
        except InvalidInputError as exc:
            problem = str(exc).partition(": ")[2]
        else:
            messages.success(request, f"No data of {cluster.name} will be deleted from now on.")
            return _to_data(cluster)
    messages.error(request, f"No legal hold was placed. {problem}")
    return _to_data(cluster)


@page
@require_http_methods(["POST"])
def cluster_lift(request: HttpRequest, cluster_id: UUID) -> HttpResponse:
    """Lift the legal hold on a single cluster."""
    cluster = access.get_cluster(request.user, cluster_id)
    access.require_manage_retention(request.user)
    hold = LegalHold.objects.filter(cluster=cluster).first()
    if hold is not None:
        legal_holds.lift(hold, actor=_user(request))
        messages.success(request, "Legal hold lifted. The audit log keeps a record.")
    return _to_data(cluster)


def retention_context(request: HttpRequest, cluster: Cluster, now: int) -> dict[str, Any]:
    """Return what the cluster's page shows about retention and holds."""
    return {
        "retention": in_force.retention_of(cluster, now),
        "tiers": list(TIERS),
        "may_hold": access.may_manage_retention(request.user),
        "sees_customer": cluster.customer_id is not None
        and access.visible_customers(request.user).filter(pk=cluster.customer_id).exists(),
        "hold_form": HoldForm(auto_id="hold_%s"),
        **exports_context(cluster, request.user),
    }


def _page(request: HttpRequest, customer: Customer, **more: Any) -> HttpResponse:
    """Render the customer's page; ``more`` replaces forms that were refused."""
    own = CustomerRetention.objects.filter(customer=customer).first()
    chosen = in_force.class_of(customer.pk)
    standing = legal_holds.standing_on(customer)
    context = {
        "customer": customer,
        "clusters": access.visible_clusters(request.user).filter(customer=customer),
        "chosen": chosen,
        "own_class": own is not None,
        "limits": complete(chosen.limits),
        "tiers": list(TIERS),
        "holds": standing,
        "customer_hold": next((hold for hold in standing if hold.customer_id), None),
        "may_change": access.may_manage_retention(request.user),
        "grace_seconds": GRACE_SECONDS,
        "class_form": ChooseClassForm(
            initial={"retention_class": own.retention_class_id if own else None},
            default=in_force.default_class(),
        ),
        **exports_context(customer, request.user),
        "hold_form": HoldForm(auto_id="hold_%s"),
        "erase_form": ConfirmForm(expected=customer.name, auto_id="erase_%s"),
        "effect": None,
        "section": "retention",
    } | more
    forms = [form for name, form in more.items() if name.endswith("_form")]
    status = 422 if any(form.errors for form in forms) else 200
    return render(request, "retention/customer.html", context, status=status)


def _kept(request: HttpRequest, customer_id: UUID) -> Customer:
    """Return the customer for a change by an administrator."""
    customer = access.get_customer(request.user, customer_id)
    access.require_manage_retention(request.user)
    return customer


def _to_data(cluster: Cluster) -> HttpResponse:
    return redirect(f"{reverse('cluster', args=[cluster.pk])}?tab=data")


def _user(request: HttpRequest) -> User:
    return cast("User", request.user)
