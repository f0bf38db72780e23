"""The API's input and output about retention, holds and erasure."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from metrics.api.parameters import KINDS
from metrics.api.serializers import MomentField
from metrics.models import Erasure
from metrics.retention.rules import MAX_DAYS, MIN_DAYS, complete, problems
from metrics.series.catalog import TIERS
from opscenter.core.api import StrictCharField
from opscenter.core.request_bodies import StrictSerializer

_DAYS = {"type": "integer", "minimum": MIN_DAYS, "maximum": MAX_DAYS}
_TIERS = {
    "type": "object",
    "properties": dict.fromkeys(TIERS, _DAYS),
    "required": list(TIERS),
    "additionalProperties": False,
}
_HISTORY = {
    "type": "object",
    "properties": {"days": _DAYS},
    "required": ["days"],
    "additionalProperties": False,
    "description": "Of the history of states and findings. Without it a change leaves it as it is,"
    " and a new class keeps it for 730 days, or as long as its longest tier.",
}
LIMIT_NAMES: tuple[str, ...] = (*KINDS, "history")
_LIMITS = {
    "type": "object",
    "properties": {name: _HISTORY if name == "history" else _TIERS for name in LIMIT_NAMES},
    "required": list(KINDS),
    "additionalProperties": False,
    "description": "Days by kind and tier. A finer tier is never kept longer than a coarser one.",
}


@extend_schema_field(_LIMITS)
class LimitsField(serializers.Field[Any, Any, Any, Any]):
    """Days by kind and tier."""

    def to_internal_value(self, data: Any) -> Any:
        """Return the limits.

        Raises:
            ValidationError: its text lists everything that is invalid.
        """
        if not isinstance(data, dict):
            raise serializers.ValidationError(["Give an object: kind -> tier -> days."])
        if wrong := problems(data):
            raise serializers.ValidationError(wrong)
        return dict(data)

    def to_representation(self, value: Any) -> Any:
        """Return the limits with all current kinds and tiers."""
        return complete(value)


class StrictBooleanField(serializers.BooleanField):
    """True or false; strings and numbers are refused."""

    def to_internal_value(self, data: Any) -> bool:
        """Return the value.

        Raises:
            ValidationError: it is not a JSON boolean.
        """
        if not isinstance(data, bool):
            self.fail("invalid", input=data)
        return data


class LossSerializer(serializers.Serializer[Any]):
    """What a change deletes of one kind and tier."""

    kind = serializers.ChoiceField(choices=LIMIT_NAMES)
    tier = serializers.CharField(help_text="`days` of the history.")
    days_before = serializers.IntegerField(help_text="The longest of the clusters.")
    days = serializers.IntegerField()
    rows = serializers.IntegerField(help_text="About, as if no series ever paused.")
    oldest = MomentField(allow_null=True, help_text="Of what goes; null if nothing does.")


class EffectSerializer(serializers.Serializer[Any]):
    """The effect of a change of retention."""

    deletes = LossSerializer(many=True, source="losses")
    due_at = MomentField(
        allow_null=True, help_text="When deletion begins; null if nothing gets shorter."
    )
    clusters = serializers.IntegerField(help_text="How many clusters the change touches.")
    held = serializers.IntegerField(help_text="How many of them a legal hold keeps as they are.")
    counted = serializers.IntegerField(help_text="Over how many of them rows were counted in time.")


class ClassWriteSerializer(StrictSerializer):
    """A new retention class."""

    name = StrictCharField(max_length=60)
    limits = LimitsField()


class ClassChangeSerializer(StrictSerializer):
    """The changes of a retention class; fields that are not given stay."""

    name = StrictCharField(max_length=60, required=False)
    limits = LimitsField(required=False)
    is_default = StrictBooleanField(
        required=False, help_text="true: for everybody without a class of their own."
    )
    dry_run = StrictBooleanField(
        default=False, help_text="true: change nothing, only say what it would delete."
    )


class ClassSerializer(serializers.Serializer[Any]):
    """A retention class."""

    id = serializers.IntegerField()
    name = serializers.CharField()
    is_default = serializers.BooleanField(help_text="For everybody without a class of their own.")
    limits = LimitsField()
    customers = serializers.ListField(
        child=serializers.CharField(), help_text="Names of the customers that chose it."
    )


class ClassChangedSerializer(serializers.Serializer[Any]):
    """A changed class, and what that deletes."""

    retention_class = ClassSerializer()
    effect = EffectSerializer()
    saved = serializers.BooleanField(help_text="false for a dry run.")


class ClassNameSerializer(serializers.Serializer[Any]):
    """A class by its id and name."""

    id = serializers.IntegerField(allow_null=True)
    name = serializers.CharField()


class HoldSerializer(serializers.Serializer[Any]):
    """A legal hold. Who placed it and why are for those who see all clusters, else null."""

    on = serializers.CharField(help_text="`customer` or `cluster`.")
    name = serializers.CharField(help_text="Of the customer or the cluster.")
    placed_at = serializers.DateTimeField()
    placed_by = serializers.CharField(allow_null=True)
    reason = serializers.CharField(allow_null=True)


class HoldWriteSerializer(StrictSerializer):
    """Why a hold is placed."""

    reason = StrictCharField(max_length=500)


class CustomerSerializer(serializers.Serializer[Any]):
    """A customer and its retention."""

    id = serializers.UUIDField()
    name = serializers.CharField()
    clusters = serializers.IntegerField()
    retention_class = ClassNameSerializer()
    legal_hold = serializers.BooleanField(help_text="On the customer or one of its clusters.")


class CustomerRetentionSerializer(serializers.Serializer[Any]):
    """How long a customer's data is kept, and its legal holds."""

    customer_id = serializers.UUIDField()
    customer = serializers.CharField()
    retention_class = ClassNameSerializer()
    limits = LimitsField(help_text="Of the class.")
    legal_holds = HoldSerializer(many=True)


class AssignSerializer(StrictSerializer):
    """Which class a customer gets."""

    retention_class_id = serializers.IntegerField(
        allow_null=True, min_value=1, max_value=2**53, help_text="null: the default class."
    )
    dry_run = StrictBooleanField(
        default=False, help_text="true: change nothing, only say what it would delete."
    )


class AssignedSerializer(serializers.Serializer[Any]):
    """A customer's class after a change, and what that deletes."""

    retention = CustomerRetentionSerializer()
    effect = EffectSerializer()
    saved = serializers.BooleanField(help_text="false for a dry run.")


class ClusterRetentionSerializer(serializers.Serializer[Any]):
    """How long one cluster's data is kept."""

    retention_class = serializers.CharField(help_text="Its name.")
    limits = LimitsField(help_text="What deletion goes by now.")
    wanted = LimitsField(help_text="What the class says; in force from `due_at` on.")
    due_at = MomentField(allow_null=True, help_text="When shorter limits come into force.")
    legal_holds = HoldSerializer(many=True)


class ErasureWriteSerializer(StrictSerializer):
    """The customer's name, typed again."""

    confirm = StrictCharField(
        max_length=100, trim_whitespace=False, help_text="The customer's name, exactly."
    )


class ErasureSerializer(serializers.Serializer[Any]):
    """The erasure of one customer's data."""

    id = serializers.UUIDField()
    customer_id = serializers.UUIDField()
    customer_name = serializers.CharField()
    state = serializers.ChoiceField(choices=Erasure.State.choices)
    clusters = serializers.IntegerField(help_text="How many there were.", source="total")
    erased = serializers.IntegerField(help_text="Of how many everything is gone.", source="done")
    problem = serializers.CharField(help_text="Why it does not go on; empty if it does.")
    requested_by = serializers.CharField()
    requested_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField(allow_null=True)
