"""What the API accepts and returns about clusters. Times are ISO 8601 UTC; names hold units."""

from __future__ import annotations

import re
from datetime import UTC
from typing import Any, ClassVar
from uuid import UUID

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from clusters.api.cluster_rows import cluster_row
from clusters.health import WORST_FIRST, session_state
from clusters.health_facts import LEVELS
from clusters.models import Cluster, ClusterKey, TunnelSession
from clusters.services import LABEL_KEY, LABEL_VALUE, MAX_LABELS
from clusters.status_numbers import NUMBERS, Number
from opscenter.core.api import StrictCharField
from opscenter.core.request_bodies import StrictSerializer

UUID_PATTERN = r"^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$"
NAME_PATTERN = r"^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$"


@extend_schema_field(
    {
        "type": "object",
        "maxProperties": MAX_LABELS,
        "propertyNames": {"pattern": LABEL_KEY, "maxLength": 63},
        "additionalProperties": {"type": "string", "pattern": LABEL_VALUE, "maxLength": 100},
        "example": {"region": "eu-central", "tier": "gold"},
    }
)
class LabelsField(serializers.DictField):
    """Free key-value pairs; :func:`clusters.services.validate_labels` judges them."""


@extend_schema_field({"type": "string", "format": "uuid", "pattern": UUID_PATTERN})
class OptionalIdField(serializers.UUIDField):
    """An id in the usual form with dashes, or null."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(required=False, allow_null=True, default=None, **kwargs)

    def to_internal_value(self, data: Any) -> UUID:
        """Return the id.

        Raises:
            ValidationError: for other forms too: numbers, urn:, braces.
        """
        if not isinstance(data, str) or not re.fullmatch(UUID_PATTERN[1:-1], data):
            self.fail("invalid", value=data)
        return UUID(data)


@extend_schema_field({"type": "string", "pattern": NAME_PATTERN, "example": "berlin-1"})
class NameField(StrictCharField):
    """A cluster's name; white space is refused, not cut."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(trim_whitespace=False, **kwargs)


class UtcField(serializers.DateTimeField):
    """A time in UTC, which asks nobody for the time zone: lists have hundreds of them."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(default_timezone=UTC, **kwargs)


class FindingSerializer(serializers.Serializer[Any]):
    """One thing that is wrong, not known, or worth a note."""

    key = serializers.CharField(
        help_text="Identifies it while it lasts: `node:n3`, `filesystem:n3:/`, `clock`."
    )
    level = serializers.ChoiceField(choices=LEVELS)
    text = serializers.CharField()
    since = UtcField(allow_null=True, help_text="By the stored minutes.")
    at_least = serializers.BooleanField(
        help_text="Whether it may have begun before `since`: nothing is known of the time before."
    )


class HealthSerializer(serializers.Serializer[Any]):
    """The health now, from the same function as on every page."""

    state = serializers.ChoiceField(choices=WORST_FIRST)
    since = UtcField(allow_null=True)
    was = serializers.CharField(help_text="The state before unknown; empty otherwise.")
    reason = serializers.CharField(help_text="What is wrong, how much of it and where.")
    at_least = serializers.BooleanField(help_text="Whether it may have begun before `since`.")
    findings = FindingSerializer(many=True)


class TunnelSerializer(serializers.Serializer[Any]):
    """The tunnel as the hub last saw it."""

    up = serializers.BooleanField(
        source="tunnel.up",
        allow_null=True,
        help_text="Null if it is not known: recorded as up, but not seen to answer.",
    )
    since = UtcField(
        source="tunnel_since", allow_null=True, help_text="When it came up or went down."
    )
    seen_at = UtcField(source="tunnel_seen_at", allow_null=True)
    rtt_ms = serializers.FloatField(source="tunnel_rtt_ms", allow_null=True)
    reason = serializers.CharField(source="tunnel_reason", help_text="Why it went down.")


def _number_fields() -> dict[str, serializers.Field[Any, Any, Any, Any]]:
    """Return a field for each number that the API's lists give, by its name there."""
    return {
        number.api: _number_field(name, number) for name, number in NUMBERS.items() if number.api
    }


def _number_field(name: str, number: Number) -> serializers.Field[Any, Any, Any, Any]:
    options: dict[str, Any] = {"help_text": number.about or None}
    if name != number.api:
        options["source"] = name
    if number.unit == "name":
        return serializers.CharField(**options)
    if number.unit == "0..1":
        return serializers.FloatField(allow_null=True, **options)
    return serializers.IntegerField(allow_null=True, **options)


class ClusterSerializer(serializers.Serializer[Any]):
    """One cluster as lists show it. Null means not known, never 0."""

    id = serializers.UUIDField()
    name = serializers.CharField()
    labels = serializers.DictField(child=serializers.CharField())
    customer = serializers.CharField(help_text="The customer's name; empty for none.")
    customer_id = serializers.UUIDField(allow_null=True)
    simulated = serializers.BooleanField(help_text="Made by the fleet simulator.")
    kind = serializers.CharField(help_text="host, kubernetes, or empty while not known.")
    agent_version = serializers.CharField()
    health = HealthSerializer()
    data_as_of = UtcField(
        allow_null=True, help_text="End of the newest minute of data; the numbers are as of then."
    )
    data_age_seconds = serializers.FloatField(allow_null=True)
    tunnel = TunnelSerializer(source="*")

    def get_fields(self) -> dict[str, Any]:
        """Return the fields above, with the numbers of the status before ``tunnel``."""
        fields: dict[str, Any] = {}
        for name, field in super().get_fields().items():
            if name == "tunnel":
                fields |= _number_fields()
            fields[name] = field
        return fields


class ClusterRowSerializer(ClusterSerializer):
    """The same for a list, written without asking each field."""

    def to_representation(self, instance: Any) -> dict[str, Any]:
        """Return one cluster of the list."""
        return cluster_row(instance)


class KeySerializer(serializers.ModelSerializer[ClusterKey]):
    """A key that the cluster signs in or signed in with."""

    class Meta:
        model = ClusterKey
        fields = ["fingerprint", "status", "created_at", "last_used_at"]


class PullSerializer(serializers.Serializer[Any]):
    """The newest pull from the cluster."""

    last_at = serializers.DateTimeField(source="last_pull_at", allow_null=True)
    last_ok_at = serializers.DateTimeField(source="last_pull_ok_at", allow_null=True)
    error_code = serializers.CharField(
        source="pull_error_code",
        help_text="A stable code, such as `tunnel_down` or `credentials_refused`.",
    )
    error = serializers.CharField(source="pull_error")
    failures = serializers.IntegerField(
        source="pull_failures", help_text="In a row, since the last good one."
    )
    clock_skew_ms = serializers.IntegerField(
        allow_null=True, help_text="The cluster's clock minus ours."
    )


class ConflictSerializer(serializers.Serializer[Any]):
    """One identity used from two places."""

    at = serializers.DateTimeField(source="conflict_at", allow_null=True)
    detail = serializers.CharField(source="conflict_detail")


class ClusterDetailSerializer(ClusterSerializer):
    """Everything known about one cluster."""

    enrolment = serializers.ChoiceField(source="status", choices=Cluster.Status.choices)
    created_at = serializers.DateTimeField()
    enrolled_at = serializers.DateTimeField(allow_null=True)
    nodes_not_ready = serializers.ListField(
        child=serializers.CharField(), help_text="Names, at most 10."
    )
    pull = PullSerializer(source="*")
    conflict = ConflictSerializer(source="*")
    services = serializers.SerializerMethodField(help_text="What may be reached in the cluster.")
    keys = serializers.SerializerMethodField()

    def get_services(self, overview: Any) -> list[str]:  # noqa: ARG002
        """Return the allowed services of the cluster in the context."""
        cluster: Cluster = self.context["cluster"]
        return cluster.allowed_services

    @extend_schema_field(KeySerializer(many=True))
    def get_keys(self, overview: Any) -> list[dict[str, Any]]:  # noqa: ARG002
        """Return the keys of the cluster in the context, newest first."""
        cluster: Cluster = self.context["cluster"]
        return list(KeySerializer(cluster.keys.order_by("-created_at", "pk"), many=True).data)


class ClusterCreateSerializer(StrictSerializer):
    """A cluster to add."""

    name = NameField()
    labels = LabelsField(required=False, default=dict)
    customer_id = OptionalIdField()


class ClusterUpdateSerializer(StrictSerializer):
    """What may be changed; labels are replaced as a whole."""

    name = NameField(required=False)
    labels = LabelsField(required=False)


class JoinTokenSerializer(serializers.Serializer[Any]):
    """A single-use right to enrol, shown once."""

    token = serializers.CharField()
    expires_at = serializers.DateTimeField()
    hub_key_fingerprint = serializers.CharField()
    command = serializers.CharField(help_text="What to run at the other end.")


class SessionSerializer(serializers.ModelSerializer[TunnelSession]):
    """One tunnel of the cluster, from sign-in to its end."""

    state = serializers.SerializerMethodField(
        help_text="`unknown`: its end is not recorded, but its hub has not seen it for a minute."
    )
    services = serializers.ListField(child=serializers.CharField())

    class Meta:
        model = TunnelSession
        fields = [
            "id", "hub", "state", "transport", "remote_address", "client_version", "services",
            "connected_at", "seen_at", "rtt_ms", "ended_at", "end_reason", "folded", "folded_until",
        ]  # fmt: skip
        extra_kwargs: ClassVar = {
            "folded": {"help_text": "Short tunnels that followed and are only counted."},
            "folded_until": {"help_text": "When the last of those ended."},
        }

    @extend_schema_field(
        serializers.ChoiceField([*TunnelSession.State.choices, ("unknown", "not known")])
    )
    def get_state(self, session: TunnelSession) -> str:
        """Return its state now."""
        now = self.context["view"].now
        return session_state(session.state, session.ended_at, session.seen_at, now)


class EnrolmentSerializer(serializers.Serializer[Any]):
    """What an agent sends to enrol."""

    # The one body whose unknown keys are ignored: a newer agent may say more of itself than this
    # centre knows, and must still get in.

    token = StrictCharField(min_length=1, max_length=200, trim_whitespace=False)
    public_key = StrictCharField(
        min_length=1,
        max_length=500,
        trim_whitespace=False,
        help_text="One line: ssh-ed25519, the key in base64, maybe a comment.",
    )
    agent_version = StrictCharField(
        max_length=200, required=False, allow_blank=True, default="", trim_whitespace=False
    )
    kind = StrictCharField(
        max_length=200,
        required=False,
        allow_blank=True,
        default="",
        trim_whitespace=False,
        help_text="host or kubernetes.",
    )


class HubSerializer(serializers.Serializer[Any]):
    """Where to dial, and the host keys to pin."""

    addresses = serializers.ListField(child=serializers.CharField())
    ws_urls = serializers.ListField(child=serializers.CharField())
    known_hosts = serializers.ListField(child=serializers.CharField())


class EnrolmentReplySerializer(serializers.Serializer[Any]):
    """Who the agent is from now on, and where its hub is."""

    cluster_id = serializers.UUIDField()
    cluster_name = serializers.CharField()
    hub = HubSerializer()
    services = serializers.ListField(child=serializers.CharField())
    keepalive_seconds = serializers.IntegerField()
