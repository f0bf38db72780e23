"""What is connected: customers, clusters, their keys, join tokens, tunnel sessions and status.

Writes go through :mod:`clusters.services`, reads by users through :mod:`clusters.access` and
:mod:`clusters.selectors`. Times are aware UTC.
"""

from __future__ import annotations

import uuid
from typing import Any, ClassVar

from django.conf import settings
from django.core.validators import RegexValidator
from django.db import models
from guardian.models import GroupObjectPermissionBase, UserObjectPermissionBase
from knox.models import AbstractAuthToken

CLUSTER_NAME = RegexValidator(
    r"^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?\Z",
    "Use 1 to 63 lower-case letters, digits, '-' and '.'; start and end with a letter or digit.",
)


class Customer(models.Model):
    """A tenant: whose clusters they are, and whose people may see them."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=100, unique=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering: ClassVar = ["name"]

    def __str__(self) -> str:
        return self.name


class Cluster(models.Model):
    """One remote cluster, or one plain machine, behind one tunnel.

    The id never changes and is the user name in the tunnel; the name is for people.
    """

    class Status(models.TextChoices):
        """Where the cluster is in its enrolment."""

        PENDING = "pending", "waiting for its agent"
        ACTIVE = "active", "enrolled"
        REVOKED = "revoked", "revoked"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=63, unique=True, validators=[CLUSTER_NAME])
    customer = models.ForeignKey(
        Customer, null=True, blank=True, on_delete=models.PROTECT, related_name="clusters"
    )
    labels = models.JSONField(default=dict, blank=True)  # str -> str, set by operators
    status = models.CharField(max_length=10, choices=Status, default=Status.PENDING)
    simulated = models.BooleanField(default=False)  # made by the fleet simulator: pages say so
    services = models.JSONField(default=list, blank=True)  # allowed services; [] means ["agent"]
    agent_version = models.CharField(max_length=40, blank=True, default="")
    kind = models.CharField(
        max_length=20, blank=True, default=""
    )  # "host", "kubernetes", "" unknown
    # One identity used from two places: when it was last seen, and what was seen.
    conflict_at = models.DateTimeField(null=True, blank=True)
    conflict_detail = models.CharField(max_length=500, blank=True, default="")
    created_at = models.DateTimeField(auto_now_add=True)
    enrolled_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering: ClassVar = ["name"]
        permissions: ClassVar = [("operate_cluster", "Can act on the cluster")]

    def __str__(self) -> str:
        return self.name

    @property
    def allowed_services(self) -> list[str]:
        """Return the names of the services that the hub accepts from this cluster."""
        return list(self.services) or ["agent"]


class ClusterUserObjectPermission(UserObjectPermissionBase):
    """A grant of one cluster to one user; gone with the cluster."""

    content_object = models.ForeignKey(
        Cluster, on_delete=models.CASCADE, related_name="user_object_permissions"
    )


class ClusterGroupObjectPermission(GroupObjectPermissionBase):
    """A grant of one cluster to one group; gone with the cluster."""

    content_object = models.ForeignKey(
        Cluster, on_delete=models.CASCADE, related_name="group_object_permissions"
    )


class CustomerUserObjectPermission(UserObjectPermissionBase):
    """A grant of one customer's clusters to one user."""

    content_object = models.ForeignKey(
        Customer, on_delete=models.CASCADE, related_name="user_object_permissions"
    )


class CustomerGroupObjectPermission(GroupObjectPermissionBase):
    """A grant of one customer's clusters to one group."""

    content_object = models.ForeignKey(
        Customer, on_delete=models.CASCADE, related_name="group_object_permissions"
    )


class LegalHold(models.Model):
    """While the row exists, nothing and nobody deletes a number of its customer or cluster.

    It goes when the hold is lifted; the audit log keeps who placed and lifted it. PROTECT keeps
    its customer and cluster from being deleted past :mod:`clusters.legal_holds`.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    customer = models.OneToOneField(
        Customer, null=True, on_delete=models.PROTECT, related_name="hold"
    )
    cluster = models.OneToOneField(
        Cluster, null=True, on_delete=models.PROTECT, related_name="hold"
    )
    reason = models.CharField(max_length=500)
    placed_by = models.CharField(max_length=150)  # as in the audit log
    placed_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=models.Q(customer=None) ^ models.Q(cluster=None),
                name="hold_on_a_customer_or_a_cluster",
            )
        ]

    def __str__(self) -> str:
        return f"legal hold on {self.customer or self.cluster}"


class ClusterStatus(models.Model):
    """What is known about a cluster now: one narrow row, so that lists cost one query.

    The hub writes the tunnel's part, pulls write the rest. The health columns hold what was
    recorded last; :func:`clusters.health.judge` decides again on every read. Amounts are sums over
    nodes: millicores and bytes. NULL means not known, never 0. The numbers of the newest minute are
    those of :mod:`clusters.status_numbers`; a test compares the two.
    """

    cluster = models.OneToOneField(
        Cluster, primary_key=True, on_delete=models.CASCADE, related_name="current"
    )
    # Health, as last recorded.
    state = models.CharField(max_length=10, default="pending")
    since = models.DateTimeField(null=True)
    was = models.CharField(max_length=10, blank=True, default="")
    reason = models.CharField(max_length=500, blank=True, default="")
    findings = models.JSONField(null=True)  # as of then, with their since; NULL for none
    # Tunnel, written by the hub. seen_at is refreshed while the session answers.
    tunnel_up = models.BooleanField(default=False)
    tunnel_since = models.DateTimeField(null=True)
    tunnel_seen_at = models.DateTimeField(null=True)
    tunnel_reason = models.CharField(max_length=200, blank=True, default="")
    tunnel_rtt_ms = models.FloatField(null=True)
    # Pulls.
    last_pull_at = models.DateTimeField(null=True)
    last_pull_ok_at = models.DateTimeField(null=True)
    pull_error_code = models.CharField(max_length=30, blank=True, default="")
    pull_error = models.CharField(max_length=500, blank=True, default="")
    pull_failures = models.PositiveIntegerField(default=0)
    clock_skew_ms = models.IntegerField(null=True)
    # Why the source sees nothing of its cluster, as of its last answer.
    collector_error = models.CharField(max_length=500, blank=True, default="")
    # How long the source in use takes until a minute is complete; added to the limit of its age.
    settle_seconds = models.PositiveIntegerField(default=0)
    # Newest minute of data (its end), and its numbers.
    data_as_of = models.DateTimeField(null=True)
    nodes_ready = models.PositiveIntegerField(null=True)
    nodes_total = models.PositiveIntegerField(null=True)
    nodes_unknown = models.PositiveIntegerField(null=True)
    nodes_not_ready = models.JSONField(default=list)  # names, at most 10
    pods = models.PositiveIntegerField(null=True)
    cpu_mc = models.BigIntegerField(null=True)
    cpu_cap_mc = models.BigIntegerField(null=True)
    mem_ws = models.BigIntegerField(null=True)
    mem_cap = models.BigIntegerField(null=True)
    cpu_share = models.FloatField(null=True)  # 0..1, of the nodes that measured both
    mem_share = models.FloatField(null=True)
    fs_worst_ratio = models.FloatField(null=True)  # 0..1, of the fullest filesystem
    fs_worst_name = models.CharField(max_length=300, blank=True, default="")  # "node /mount"
    inodes_worst_ratio = models.FloatField(null=True)
    inodes_worst_name = models.CharField(max_length=300, blank=True, default="")
    # What is off at single parts, as of that minute (clusters.conditions); NULL for nothing, which
    # costs a list of thousands of clusters less than an empty list.
    conditions = models.JSONField(null=True)
    # The last hour for sparklines: lists of at most 60 CPU ratios in permille, null = no data,
    # ending at data_as_of.
    cpu_history = models.JSONField(default=list)
    # How much of the day's history was written (clusters.health_history); {} for none yet.
    history_day = models.JSONField(default=dict)

    def __str__(self) -> str:
        return f"status of {self.cluster_id}"


class ClusterEvent(models.Model):
    """A span of a cluster's history: its state, or one finding, at one level, from then to then.

    ``..._at`` is by evidence (:mod:`clusters.health`), ``..._known_at`` is when it was recorded
    here and never changes. :mod:`clusters.health_history` writes it. Rows of one key never overlap.
    """

    class Ending(models.TextChoices):
        """What is known of its end."""

        OPEN = "", "still so"
        OVER = "over", "over"
        CHANGED = "changed", "went on at another level"
        NOT_KNOWN = "unknown", "not known since"

    id = models.BigAutoField(primary_key=True)
    cluster = models.ForeignKey(
        Cluster, on_delete=models.CASCADE, related_name="events", db_index=False
    )
    key = models.CharField(max_length=500)  # "state", or a finding's: "node:n3", "filesystem:n3:/"
    level = models.CharField(max_length=10)  # a state, or a finding's level
    text = models.CharField(max_length=500, blank=True, default="")  # the newest while it lasts
    began_at = models.DateTimeField()
    began_at_least = models.BooleanField(default=False)  # it may have begun earlier
    began_known_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)
    ended_known_at = models.DateTimeField(null=True)
    ending = models.CharField(max_length=10, blank=True, default="", choices=Ending)

    class Meta:
        indexes: ClassVar = [
            models.Index(fields=["cluster", "ended_at"], name="event_in_a_time"),
            models.Index(fields=["cluster", "key", "ended_at"], name="event_of_a_key"),
        ]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["cluster", "key"],
                condition=models.Q(ended_at=None),
                name="one_open_event_of_a_key",
            )
        ]

    def __str__(self) -> str:
        return f"{self.key} {self.level} of {self.cluster_id}"


class ClusterNode(models.Model):
    """A node that a cluster has or had: the inventory that missing nodes are counted by.

    A node is *removed* when a list of what should be there (Kubernetes' own, a host's agent) lacks
    it. One that only sends nothing any more is *missing* until somebody dismisses it or a day is
    over (:mod:`clusters.node_inventory`).
    """

    cluster = models.ForeignKey(Cluster, on_delete=models.CASCADE, related_name="nodes")
    name = models.CharField(max_length=253)
    first_seen_at = models.DateTimeField()
    last_seen_at = models.DateTimeField()  # end of its newest minute, by our clock
    listed_by = models.CharField(max_length=30, blank=True, default="")  # kind of source
    says_ready = models.BooleanField(default=False)  # whether it ever said if it is ready
    removed_at = models.DateTimeField(null=True)
    dismissed_at = models.DateTimeField(null=True)
    dismissed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+"
    )

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["cluster", "name"], name="node_once_in_a_cluster")
        ]

    def __str__(self) -> str:
        return f"{self.name} of {self.cluster_id}"


class ClusterKey(models.Model):
    """A public key that an agent may sign in with; the fingerprint decides which cluster it is."""

    class Status(models.TextChoices):
        """Whether the hub accepts the key."""

        ACTIVE = "active", "active"
        RETIRED = "retired", "replaced by a newer key"
        REVOKED = "revoked", "revoked"

    cluster = models.ForeignKey(Cluster, on_delete=models.CASCADE, related_name="keys")
    public_key = models.CharField(max_length=200)  # "ssh-ed25519 AAAA..."
    fingerprint = models.CharField(max_length=60, unique=True)  # "SHA256:..."
    status = models.CharField(max_length=10, choices=Status, default=Status.ACTIVE)
    created_at = models.DateTimeField(auto_now_add=True)
    last_used_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return self.fingerprint


class JoinToken(models.Model):
    """A single-use right to register a key for one cluster. Only its SHA-256 is kept."""

    cluster = models.ForeignKey(Cluster, on_delete=models.CASCADE, related_name="join_tokens")
    digest = models.CharField(max_length=64, unique=True)
    created_at = models.DateTimeField(auto_now_add=True)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+"
    )
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True)
    used_from = models.CharField(max_length=60, blank=True, default="")

    def __str__(self) -> str:
        return f"join token of {self.cluster_id}"


class TunnelSession(models.Model):
    """One tunnel of a cluster, from sign-in to its end. Ended rows are history and stay."""

    class State(models.TextChoices):
        """``ready`` carries pulls; ``draining`` was replaced by a newer session."""

        CONNECTING = "connecting", "signed in, no service yet"
        READY = "ready", "ready"
        SUSPECT = "suspect", "not answering"
        DRAINING = "draining", "replaced, finishing"
        GONE = "gone", "ended"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    cluster = models.ForeignKey(Cluster, on_delete=models.CASCADE, related_name="sessions")
    hub = models.CharField(max_length=40)
    state = models.CharField(max_length=10, choices=State, default=State.CONNECTING)
    transport = models.CharField(max_length=10)  # "tcp" or "wss"
    remote_address = models.CharField(max_length=60)
    client_version = models.CharField(max_length=100, blank=True, default="")
    services = models.JSONField(default=list)  # names that the agent forwards
    connected_at = models.DateTimeField()
    seen_at = models.DateTimeField()
    rtt_ms = models.FloatField(null=True)
    ended_at = models.DateTimeField(null=True)
    end_reason = models.CharField(max_length=200, blank=True, default="")

    class Meta:
        ordering: ClassVar = ["-connected_at"]
        indexes: ClassVar = [
            models.Index(fields=["cluster", "-connected_at"]),
            # The hub's start and its heartbeat look for open sessions only.
            models.Index(
                fields=["hub"], condition=models.Q(ended_at=None), name="tunnel_session_open"
            ),
        ]

    def __str__(self) -> str:
        return f"session {self.id} of {self.cluster_id}"


class ApiToken(AbstractAuthToken):  # type: ignore[misc]
    """A named API token; only its digest is kept."""

    name = models.CharField(max_length=100)
    read_only = models.BooleanField(default=False)
    last_used_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"{self.name} of {self.user}"


class AuditEvent(models.Model):
    """One line of the append-only, hash-chained audit log (:mod:`clusters.audit` writes it)."""

    id = models.BigAutoField(primary_key=True)
    at = models.DateTimeField()
    actor = models.CharField(max_length=150)  # user name, "agent <address>", "system"
    action = models.CharField(max_length=50)  # "cluster.create", "agent.enrol", "token.create"
    cluster_id = models.UUIDField(null=True)  # no foreign key: the log outlives the cluster
    ok = models.BooleanField(default=True)
    detail = models.JSONField(default=dict)
    previous = models.CharField(max_length=64)  # hash of the line before; "" for the first
    digest = models.CharField(max_length=64, unique=True)

    class Meta:
        ordering: ClassVar = ["id"]

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M:%S} {self.actor} {self.action}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Append the line.

        Raises:
            TypeError: if it is stored already.
        """
        if not self._state.adding:
            raise TypeError("the audit log is append-only")
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:  # noqa: ARG002
        """Refuse.

        Raises:
            TypeError: always.
        """
        raise TypeError("the audit log is append-only")
