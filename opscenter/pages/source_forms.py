"""The form of a source: one for each kind, with its fields."""

from __future__ import annotations

from typing import Any

from django import forms

from clusters.tunnel.protocol import SERVICE_PORTS
from metrics.connections.config import LONGEST
from metrics.sources.kinds import KINDS, LABELS, TLS_SECRETS, TLS_SETTINGS

_TLS = (*TLS_SETTINGS, *TLS_SECRETS)


class SourceForm(forms.Form):
    """One source; checks shapes, :func:`metrics.connections.config.read_config` holds the rules."""

    service = forms.ChoiceField(
        choices=[(name, name) for name in SERVICE_PORTS if name != "agent"],
        label="Tunnel service",
        help_text="Its name in the agent's list.",
    )
    scheme = forms.ChoiceField(
        choices=[("http", "http, inside the tunnel"), ("https", "https, end to end")],
        label="Protocol",
    )

    def __init__(
        self, *args: Any, kind: str, secrets_set: list[str] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.kind = KINDS[kind]
        stored = secrets_set or []
        for name in (*self.kind.every_setting, *self.kind.every_secret):
            self.fields[name] = self._field(name, is_set=name in stored)

    def _field(self, name: str, *, is_set: bool) -> forms.CharField:
        label, text = LABELS[name]
        secret = name in self.kind.every_secret
        long = name in LONGEST
        attributes: dict[str, Any] = {"autocomplete": "new-password" if secret else "off"}
        widget: forms.Widget
        if long:
            widget = forms.Textarea(attrs={**attributes, "rows": 3, "class": "mono"})
        elif secret:
            widget = forms.PasswordInput(attrs=attributes)
        else:
            widget = forms.TextInput(attrs=attributes)
        if is_set:
            text = f"{text} Already set; leave empty to keep it.".strip()
        return forms.CharField(
            label=label, help_text=text, widget=widget,
            required=self.kind.settings.get(name, "") is None,
        )  # fmt: skip

    @property
    def plain_fields(self) -> list[forms.BoundField]:
        """Return the fields that everybody needs to see."""
        return [field for field in self if field.name not in _TLS]

    @property
    def tls_fields(self) -> list[forms.BoundField]:
        """Return the fields of https."""
        return [field for field in self if field.name in _TLS]

    @property
    def tls_open(self) -> bool:
        """Return whether the fields of https are in use, or invalid."""
        return self["scheme"].value() == "https" or any(field.errors for field in self.tls_fields)

    def given(self) -> dict[str, Any]:
        """Return a valid form as arguments of :func:`~metrics.connections.config.read_config`."""
        clean = self.cleaned_data
        return {
            "service": clean["service"],
            "scheme": clean["scheme"],
            "settings": {name: clean[name] for name in self.kind.every_setting},
            "secrets": {name: clean[name] for name in self.kind.every_secret},
        }
