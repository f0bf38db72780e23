"""The API's output about metrics.

In resources times are ISO 8601 UTC; in ranges and windows, where there are many, they are Unix
seconds. Values are keyed by the catalogue's field names; their units are given separately.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from metrics.api.parameters import KINDS, RAW_KINDS, WINDOW_STATES

NUMBERS = {"type": "object", "additionalProperties": {"type": ["integer", "null"]}}


@extend_schema_field({"type": "string", "format": "date-time"})
class MomentField(serializers.Field[int, Any, str, Any]):
    """Unix seconds, given as ISO 8601 UTC."""

    def to_representation(self, value: int) -> str:
        """Return the moment as text."""
        return datetime.fromtimestamp(value, UTC).isoformat().replace("+00:00", "Z")


class SeriesSerializer(serializers.Serializer[Any]):
    """A node, filesystem or pod as last measured."""

    ns = serializers.CharField(help_text="A pod's namespace, a filesystem's node, else empty.")
    name = serializers.CharField()
    node = serializers.CharField(help_text="The node that a pod runs on, else empty.")
    present = serializers.BooleanField(help_text="False: gone from the cluster's newest minutes.")
    as_of = MomentField(help_text="End of its newest minute, by our clock.")
    attributes = serializers.DictField(source="attrs", child=serializers.CharField())
    values = serializers.SerializerMethodField(
        help_text="By field, in the units of `units`; null means not measured."
    )

    @extend_schema_field(NUMBERS)
    def get_values(self, series: Any) -> dict[str, int | None]:
        """Return every field of the kind."""
        return dict(series.values)


class GapSerializer(serializers.Serializer[Any]):
    """A span in which minutes are missing, and why. Unix seconds."""

    start = serializers.IntegerField()
    end = serializers.IntegerField()
    state = serializers.CharField(help_text="gap: still asked for; lost: gone for good.")
    reason = serializers.CharField(
        help_text="As in the ledger; store_damaged: it was stored and cannot be read any more."
    )
    detail = serializers.CharField(help_text="How many minutes are missing, and why, in words.")
    got = serializers.IntegerField(help_text="Minutes of the span that are stored all the same.")
    expected = serializers.IntegerField(help_text="Minutes of the span.")


class ColumnsSerializer(serializers.Serializer[Any]):
    """One field over time, as columns of the same length: one entry per bucket that has data.

    All times are Unix seconds, UTC. A bucket covers ``[t, t + step)``.
    """

    unit = serializers.CharField(help_text="Of mean, min and max.")
    tier = serializers.CharField(help_text="1m, 10m or 1h: what the answer was made from.")
    step = serializers.IntegerField(help_text="Width of a bucket in seconds.")
    start = serializers.IntegerField(help_text="The asked range, rounded out to whole buckets.")
    end = serializers.IntegerField()
    as_of = serializers.IntegerField(
        allow_null=True,
        help_text="End of the cluster's newest data, by its own clock as all times of minutes;"
        " null before the first.",
    )
    t = serializers.ListField(child=serializers.IntegerField(), help_text="Start of each bucket.")
    mean = serializers.ListField(child=serializers.FloatField())
    min = serializers.ListField(
        child=serializers.IntegerField(allow_null=True),
        help_text="Null where it is not known: the source's own rollups gave the mean alone.",
    )
    max = serializers.ListField(child=serializers.IntegerField(allow_null=True))
    coverage = serializers.ListField(
        child=serializers.FloatField(), help_text="Minutes present per minutes expected, 0..1."
    )
    samples = serializers.ListField(
        child=serializers.IntegerField(), help_text="Minutes that have data, of each bucket."
    )
    expected = serializers.ListField(
        child=serializers.IntegerField(), help_text="Minutes that could have data so far."
    )
    due = serializers.IntegerField(
        help_text="Minutes that the whole range could have, those without any bucket among them."
    )
    gaps = GapSerializer(many=True)


class ChangeSerializer(serializers.Serializer[Any]):
    """How the mean differs from the former one, over the buckets with data in both ranges."""

    mean = serializers.FloatField(allow_null=True)
    former_mean = serializers.FloatField(allow_null=True)
    ratio = serializers.FloatField(
        allow_null=True, help_text="0.1: a tenth more. Null without data, or if it was 0."
    )
    share = serializers.FloatField(help_text="The share of the range that was compared, 0..1.")


class ComparisonSerializer(serializers.Serializer[Any]):
    """The same range earlier, with its own times: add `offset` to align it with the later one.

    Its tier may be wider, where finer buckets are no longer kept.
    """

    offset = serializers.IntegerField(help_text="In seconds.")
    former = ColumnsSerializer()
    change = ChangeSerializer()


class RangeSerializer(ColumnsSerializer):
    """One field of one series over time, and the earlier range, if it was requested."""

    kind = serializers.ChoiceField(choices=KINDS)
    ns = serializers.CharField()
    name = serializers.CharField()
    field = serializers.CharField()
    comparison = ComparisonSerializer(allow_null=True)


class RawSerializer(serializers.Serializer[Any]):
    """One field of one series, at the finest step of the cluster's own source. Nothing is stored.

    Times are labelled as stored minutes are: a value that a source reports at the end of a minute
    is at its start.
    """

    kind = serializers.ChoiceField(choices=RAW_KINDS)
    ns = serializers.CharField()
    name = serializers.CharField()
    field = serializers.CharField()
    unit = serializers.CharField(help_text="Of the values.")
    start = serializers.IntegerField(help_text="Unix seconds.")
    end = serializers.IntegerField()
    step = serializers.FloatField(
        allow_null=True, help_text="How far apart the source has them, in seconds, if known."
    )
    note = serializers.CharField(help_text="What the values are.")
    t = serializers.ListField(child=serializers.FloatField(), help_text="Unix seconds.")
    v = serializers.ListField(child=serializers.FloatField())


class TopEntrySerializer(serializers.Serializer[Any]):
    """One series of a top list, over the whole range."""

    cluster_id = serializers.UUIDField(source="cluster.pk")
    cluster_name = serializers.CharField(source="cluster.name")
    ns = serializers.CharField(source="key.ns")
    name = serializers.CharField(source="key.name")
    node = serializers.CharField(help_text="The node that a pod was last seen on, else empty.")
    mean = serializers.FloatField()
    max = serializers.IntegerField(allow_null=True, help_text="Null where only means are known.")
    samples = serializers.IntegerField(source="minutes", help_text="Minutes that have data.")
    expected = serializers.IntegerField(
        help_text="Minutes that could, since the series' first one."
    )
    asked = serializers.IntegerField(
        help_text="Minutes of the range, less those at its end that were not due yet."
    )
    first_seen = MomentField(
        allow_null=True, help_text="Its first minute ever stored, by our clock; null if unknown."
    )


class TopSerializer(serializers.Serializer[Any]):
    """The largest series, the largest first."""

    kind = serializers.ChoiceField(choices=KINDS)
    field = serializers.CharField()
    unit = serializers.CharField(help_text="Of mean and max.")
    by = serializers.CharField()
    start = serializers.IntegerField(
        help_text="The asked range in Unix seconds, rounded out to whole buckets."
    )
    end = serializers.IntegerField()
    tiers = serializers.ListField(
        child=serializers.CharField(), help_text="What was read, by the clusters' retention."
    )
    as_of = serializers.IntegerField(
        allow_null=True,
        help_text="End of the newest data of those listed, by our clock; null without any.",
    )
    clusters = serializers.IntegerField(help_text="How many were looked at.")
    entries = TopEntrySerializer(many=True)


class WindowSerializer(serializers.Serializer[Any]):
    """One window of the gap ledger. Times are Unix seconds."""

    start = serializers.IntegerField()
    end = serializers.IntegerField()
    state = serializers.ChoiceField(choices=WINDOW_STATES)
    got_minutes = serializers.IntegerField(source="got")
    expected_minutes = serializers.IntegerField(source="expected")
    attempts = serializers.IntegerField(help_text="Pulls that included the window.")
    reason = serializers.CharField(help_text="Why something is missing; empty if nothing is.")
    detail = serializers.CharField()
    filled_at = serializers.IntegerField(
        allow_null=True, help_text="When a former gap was filled, else null."
    )
    resolution_seconds = serializers.IntegerField(
        source="resolution",
        help_text="Finest step at which it is held: 300 or 3600 where the source's minutes were"
        " gone and its own roll-ups filled the gap.",
    )
