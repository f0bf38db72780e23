"""The API's input and output about a cluster's sources."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from clusters.tunnel.protocol import SERVICE_PORTS
from metrics.api.parameters import KINDS as SERIES_KINDS
from metrics.api.retention_serializers import StrictBooleanField
from metrics.api.serializers import MomentField
from metrics.connections.config import LONGEST, LONGEST_TEXT
from metrics.connections.probe import agent_setting
from metrics.connections.status import SourceView
from metrics.sources.kinds import KINDS, Kind
from opscenter.core.api import StrictCharField
from opscenter.core.request_bodies import StrictSerializer

SERVICES = [name for name in SERVICE_PORTS if name != "agent"]
MAIN_KINDS = [kind.name for kind in KINDS.values() if kind.role == "main"]
_NAMES = sorted({name for kind in KINDS.values() for name in kind.every_setting})
_SECRETS = sorted({name for kind in KINDS.values() for name in kind.every_secret})
# Explanations of settings whose names are not enough.
_MORE = {"node": "node (where it runs)"}


def _settings_by_kind() -> str:
    """Return a sentence for each kind with its settings, main sources first."""
    kinds = sorted(KINDS.values(), key=lambda kind: (kind.role != "main", kind.name))
    return " ".join(f"{kind.name}: {', '.join(_setting_names(kind))}." for kind in kinds)


def _setting_names(kind: Kind) -> list[str]:
    """Return the names of a kind's settings, the path prefix last."""
    return [_MORE.get(name, name) for name in sorted(kind.settings, key="path_prefix".__eq__)]


def _texts(names: list[str]) -> dict[str, Any]:
    """Return the schema of strings by name, each with its maximum length."""
    lengths = {name: LONGEST.get(name, LONGEST_TEXT) for name in names}
    return {name: {"type": "string", "maxLength": longest} for name, longest in lengths.items()}


@extend_schema_field(
    {
        "type": "object",
        "properties": _texts(_NAMES),
        "additionalProperties": False,
        "description": f"{_settings_by_kind()} With https for all: ca and certificate (PEM), "
        "server_name.",
    }
)
class SettingsField(serializers.DictField):
    """Settings by name."""

    child = StrictCharField(
        allow_blank=True, max_length=max(LONGEST.values()), trim_whitespace=False
    )


@extend_schema_field(
    {
        "type": "object",
        "properties": _texts(_SECRETS),
        "additionalProperties": False,
        "writeOnly": True,
        "description": "Never given out. One that is left out keeps its value while kind and "
        "service stay the same.",
    }
)
class SecretsField(SettingsField):
    """Secrets by name."""


class EtcdWriteSerializer(StrictSerializer):
    """The cluster's etcd, to be saved or tested."""

    service = serializers.ChoiceField(
        choices=SERVICES, required=False, help_text="Of the tunnel; by default the kind's own."
    )
    scheme = serializers.ChoiceField(choices=["http", "https"], default="http")
    settings = SettingsField(default=dict)
    secrets = SecretsField(default=dict, write_only=True)


class SourceWriteSerializer(EtcdWriteSerializer):
    """A main source, to be saved or tested."""

    kind = serializers.ChoiceField(choices=MAIN_KINDS)


class EtcdPutSerializer(EtcdWriteSerializer):
    """The cluster's etcd, to be saved."""

    test = StrictBooleanField(
        default=True, help_text="true: test it first, and set it only if that goes well."
    )


class SourcePutSerializer(SourceWriteSerializer):
    """A main source, to be saved."""

    test = StrictBooleanField(
        default=True, help_text="true: test it first, and set it only if that goes well."
    )


class FieldProbeSerializer(serializers.Serializer[Any]):
    """Whether a source has one field of the catalogue."""

    kind = serializers.ChoiceField(choices=SERIES_KINDS)
    field = serializers.CharField()
    series = serializers.IntegerField(help_text="How many series have it now.")
    why = serializers.CharField(allow_blank=True, help_text="Why it is missing; else empty.")


class ResolutionSerializer(serializers.Serializer[Any]):
    """Values of one width that a source keeps."""

    step_seconds = serializers.IntegerField()
    reach_seconds = serializers.IntegerField(
        allow_null=True, help_text="For how long it keeps them; null if that is not known."
    )
    tier = serializers.CharField()

    def to_representation(self, instance: Any) -> dict[str, Any]:
        """Return one of a report's triples as an object."""
        return dict(zip(("step_seconds", "reach_seconds", "tier"), instance, strict=True))


class ReportSerializer(serializers.Serializer[Any]):
    """The report of a test of a source."""

    ok = serializers.BooleanField()
    code = serializers.CharField(help_text="What is wrong, in a stable word; empty if ok.")
    title = serializers.CharField(help_text="The same for people.")
    message = serializers.CharField(help_text="What exactly happened.")
    advice = serializers.CharField(help_text="What to do about it.")
    product = serializers.CharField()
    version = serializers.CharField()
    oldest = MomentField(allow_null=True, help_text="Start of its oldest data.")
    newest = MomentField(allow_null=True)
    clock_skew_ms = serializers.IntegerField(
        allow_null=True, help_text="Its clock minus ours; null if it does not say."
    )
    series = serializers.DictField(
        child=serializers.IntegerField(), help_text="How many series of each kind it has now."
    )
    fields = FieldProbeSerializer(many=True)  # type: ignore[assignment]
    resolutions = ResolutionSerializer(many=True)
    notes = serializers.ListField(child=serializers.CharField())


class SourceSerializer(serializers.Serializer[Any]):
    """One source of a cluster. ``agent`` means the agent's own collectors."""

    kind = serializers.CharField()
    title = serializers.CharField()
    service = serializers.CharField(help_text="Of the tunnel.")
    scheme = serializers.CharField()
    settings = serializers.DictField(child=serializers.CharField())
    secrets_set = serializers.ListField(child=serializers.CharField())
    offered = serializers.BooleanField(
        help_text="Whether the agent lets the service through its tunnel now."
    )
    agent_setting = serializers.SerializerMethodField(
        help_text="What the agent's environment needs, where it does not; empty otherwise."
    )
    error = serializers.CharField(help_text="Of the last use; empty if it went well.")
    error_code = serializers.CharField(help_text="The same in a stable word, as `code` of a test.")
    added_by = serializers.CharField()
    added_at = serializers.DateTimeField(allow_null=True)
    changed_by = serializers.CharField()
    changed_at = serializers.DateTimeField(allow_null=True)
    tested_at = serializers.DateTimeField(allow_null=True)
    report = ReportSerializer(allow_null=True, help_text="Of the last good test.")

    def get_agent_setting(self, view: SourceView) -> str:
        """Return the setting that is missing at the agent."""
        return "" if view.offered or view.kind == "agent" else agent_setting(view.service)


class RefusedReasonSerializer(serializers.Serializer[Any]):
    """One reason for which values were not believed."""

    text = serializers.CharField(help_text='E.g. "node cpu_mc below zero".')
    count = serializers.IntegerField(help_text="Ever; a minute that came twice counts twice.")
    last_at = serializers.DateTimeField()


class RefusedValuesSerializer(serializers.Serializer[Any]):
    """The values of a cluster that were not believed."""

    total = serializers.IntegerField()
    last_at = serializers.DateTimeField(allow_null=True)
    reasons = RefusedReasonSerializer(many=True)


class SourcingSerializer(serializers.Serializer[Any]):
    """The sources of a cluster's data, and their problems."""

    main = SourceSerializer()
    etcd = SourceSerializer(allow_null=True)
    offered_services = serializers.ListField(
        child=serializers.CharField(), source="offered", help_text="By the agent, now."
    )
    rejected_rows = serializers.IntegerField(
        help_text="Rows of live pulls left out because their time was off by more than -24 h or "
        "+5 min, ever."
    )
    rejected_at = serializers.DateTimeField(allow_null=True)
    rejected_detail = serializers.CharField()
    refused_values = RefusedValuesSerializer(
        help_text="Values of live pulls and filled gaps that cannot be true; they are left out."
    )
    notes = serializers.ListField(
        child=serializers.CharField(), help_text="What is odd in the last answer."
    )


class SourceSavedSerializer(serializers.Serializer[Any]):
    """The result of saving a source."""

    saved = serializers.BooleanField(help_text="False: the test failed, nothing was changed.")
    report = ReportSerializer(allow_null=True, help_text="Of the test; null without one.")
    sourcing = SourcingSerializer()


class BackfillSerializer(serializers.Serializer[Any]):
    """The progress of filling a cluster's gaps."""

    gaps = serializers.IntegerField(help_text="Open windows of at most ten minutes.")
    minutes_left = serializers.IntegerField()
    minutes_done = serializers.IntegerField(help_text="Since filling began.")
    oldest = MomentField(allow_null=True, help_text="Start of the oldest gap.")
    newest = MomentField(allow_null=True, help_text="End of the newest gap.")
    since = MomentField(allow_null=True, help_text="When filling began; null if it has not.")
    minutes_per_second = serializers.FloatField(
        allow_null=True, help_text="Over the last runs; null before the first."
    )
    seconds_left = serializers.FloatField(
        allow_null=True, help_text="At that rate; 0 if nothing is left, null if it cannot be told."
    )
