"""The forms of the pages. They check shapes; the services hold the rules."""

from __future__ import annotations

from typing import Any

from django import forms

from clusters.models import CLUSTER_NAME


class LabelsField(forms.CharField):
    """Labels as text: one ``key=value`` per line, or several separated by commas."""

    widget = forms.Textarea

    def clean(self, value: Any) -> dict[str, str]:
        """Return the labels as a mapping."""
        text = super().clean(value)
        labels: dict[str, str] = {}
        for part in text.replace(",", "\n").splitlines():
            if not part.strip():
                continue
            key, sign, label = (piece.strip() for piece in part.partition("="))
            if not sign or not key:
                raise forms.ValidationError(f"{part.strip()[:60]!r} is not of the form key=value.")
            if key in labels:
                raise forms.ValidationError(f"The label {key[:60]!r} appears twice.")
            labels[key] = label
        return labels


class AddClusterForm(forms.Form):
    """Name, customer and labels of a new cluster."""

    name = forms.CharField(
        max_length=63,
        validators=[CLUSTER_NAME],
        help_text="For example ams-prod-1.",
        widget=forms.TextInput(attrs={"autofocus": True, "autocomplete": "off"}),
    )
    customer = forms.CharField(
        max_length=100,
        required=False,
        help_text="Choose a customer or type a new one.",
        widget=forms.TextInput(attrs={"list": "customers", "autocomplete": "off"}),
    )
    labels = LabelsField(
        required=False,
        max_length=8000,
        help_text="One key=value per line, for example region=eu-west. "
        "Use them to filter and group the fleet.",
        widget=forms.Textarea(attrs={"rows": 3, "autocomplete": "off"}),
    )


class LabelsForm(forms.Form):
    """The labels of a cluster."""

    labels = LabelsField(
        required=False,
        max_length=8000,
        help_text="One key=value per line.",
        widget=forms.Textarea(attrs={"rows": 5, "autocomplete": "off"}),
    )


class KeyForm(forms.Form):
    """A public key of a stock OpenSSH client."""

    public_key = forms.CharField(
        max_length=400,
        label="Public key",
        help_text="The single line of opscenter_key.pub. It starts with ssh-ed25519.",
        widget=forms.TextInput(attrs={"autocomplete": "off", "class": "mono"}),
    )


class ConfirmForm(forms.Form):
    """A cluster's or customer's name, typed again before an action that cannot be undone."""

    name = forms.CharField(max_length=100, widget=forms.TextInput(attrs={"autocomplete": "off"}))

    def __init__(self, *args: Any, expected: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.expected = expected

    def clean_name(self) -> str:
        """Return the name.

        Raises:
            ValidationError: if it is another name.
        """
        name = str(self.cleaned_data["name"]).strip()
        if name != self.expected:
            raise forms.ValidationError("The name does not match. Nothing was changed.")
        return name
