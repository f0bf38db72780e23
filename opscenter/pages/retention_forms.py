"""The forms of retention, holds and erasure. They check shapes; ``metrics`` holds the rules."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django import forms
from django.forms import BoundField

from metrics.models import RetentionClass
from metrics.retention.rules import MAX_DAYS, MIN_DAYS, Limits, complete, every_limit, problems
from metrics.series.catalog import KINDS, TIERS


class ClassForm(forms.Form):
    """Name and days of a retention class: one number for each kind and tier."""

    name = forms.CharField(
        max_length=60,
        help_text="For example: Banks, 10 years.",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    is_default = forms.BooleanField(
        required=False,
        label="Default class, for customers without one of their own",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for kind, tier in every_limit():
            self.fields[f"{kind}_{tier}"] = forms.IntegerField(
                min_value=MIN_DAYS,
                max_value=MAX_DAYS,
                label="history: days" if kind == "history" else f"{kind}, {tier}: days",
                widget=forms.NumberInput(attrs={"inputmode": "numeric", "size": "5"}),
            )

    def rows(self) -> Iterator[tuple[str, list[BoundField]]]:
        """Yield each kind with its fields, finest tier first."""
        for kind in KINDS:
            yield kind, [self[f"{kind}_{tier}"] for tier in TIERS]

    @property
    def history(self) -> BoundField:
        """Return the field of the history's days."""
        return self["history_days"]

    @property
    def cell_errors(self) -> list[str]:
        """Return what is wrong with single numbers, one line each."""
        return [
            f"{field.label}: {' '.join(map(str, field.errors))}"
            for _, fields in [*self.rows(), ("history", [self.history])]
            for field in fields
            if field.errors
        ]

    @property
    def limits(self) -> Limits:
        """Return the days of a form that is valid."""
        found: dict[str, dict[str, int]] = {}
        for kind, tier in every_limit():
            found.setdefault(kind, {})[tier] = int(self.cleaned_data[f"{kind}_{tier}"])
        return complete(found)

    def clean(self) -> dict[str, Any]:
        """Return the values; days must be in order.

        Raises:
            ValidationError: naming each place where a finer tier is kept longer.
        """
        found = super().clean() or self.cleaned_data
        if not self.errors:
            wrong = problems(self.limits)
            if wrong:
                raise forms.ValidationError(wrong)
        return found


def initial_of(name: str, limits: Limits, *, is_default: bool) -> dict[str, Any]:
    """Return the initial values of a class's form."""
    days = {f"{kind}_{tier}": limits[kind][tier] for kind, tier in every_limit()}
    return {"name": name, "is_default": is_default, **days}


class ChooseClassForm(forms.Form):
    """The retention class of a customer; empty for the default one."""

    retention_class = forms.ModelChoiceField(
        RetentionClass.objects.all(), required=False, label="Retention class"
    )

    def __init__(self, *args: Any, default: RetentionClass, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["retention_class"]
        if isinstance(field, forms.ModelChoiceField):
            field.empty_label = f"The default ({default.name})"


class HoldForm(forms.Form):
    """Why a legal hold is placed."""

    reason = forms.CharField(
        max_length=500,
        label="Reason",
        help_text="For example a court file number. Customers cannot see it.",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
