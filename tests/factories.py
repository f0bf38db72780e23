"""Objects for tests: customers, clusters with a status, users with a role, grants."""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime
from typing import Any

import factory
from django.contrib.auth.models import Group, User
from factory.django import DjangoModelFactory
from guardian.shortcuts import assign_perm

from clusters.models import ApiToken, Cluster, ClusterStatus, Customer, TunnelSession

PASSWORD = "a long enough passphrase"
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


class CustomerFactory(DjangoModelFactory[Customer]):
    class Meta:
        model = Customer

    name = factory.Sequence(lambda n: f"Customer {n}")


class ClusterFactory(DjangoModelFactory[Cluster]):
    """A cluster that enrolled and has a status row; ``current__...`` sets the status."""

    class Meta:
        model = Cluster
        skip_postgeneration_save = True

    name = factory.Sequence(lambda n: f"cluster-{n:04}")
    customer = factory.SubFactory(CustomerFactory)
    status = Cluster.Status.ACTIVE
    enrolled_at = NOW

    @factory.post_generation
    def current(self, create: bool, extracted: Any, **columns: Any) -> None:
        ClusterStatus.objects.create(cluster=self, **columns)


class TunnelSessionFactory(DjangoModelFactory[TunnelSession]):
    class Meta:
        model = TunnelSession

    cluster = factory.SubFactory(ClusterFactory)
    hub = "hub-1"
    state = TunnelSession.State.READY
    transport = "tcp"
    remote_address = "192.0.2.7"
    connected_at = NOW
    seen_at = NOW


class UserFactory(DjangoModelFactory[User]):
    class Meta:
        model = User
        skip_postgeneration_save = True

    username = factory.Sequence(lambda n: f"user-{n}")
    password = factory.django.Password(PASSWORD)

    @factory.post_generation
    def groups(self, create: bool, extracted: Any, **kwargs: Any) -> None:
        for name in extracted or ():
            # A test with transaction=True empties the tables, and with them the migration's rows.
            self.groups.add(Group.objects.get_or_create(name=name)[0])


def healthy(now: datetime = NOW, **columns: Any) -> dict[str, Any]:
    """Return status columns of a cluster that is well at ``now``; pass as ``**healthy()``."""
    facts = {
        "state": "ok", "since": now, "reason": "all 3 nodes are ready", "tunnel_up": True,
        "tunnel_since": now, "tunnel_seen_at": now, "last_pull_at": now, "last_pull_ok_at": now,
        "data_as_of": now, "nodes_ready": 3, "nodes_total": 3, "pods": 90, "cpu_mc": 4000,
        "cpu_cap_mc": 12000, "mem_ws": 8 << 30, "mem_cap": 48 << 30, "fs_worst_ratio": 0.4,
        "fs_worst_name": "node-1 /", "inodes_worst_ratio": 0.1, "inodes_worst_name": "node-1 /",
        "cpu_history": [300, None, 333],
    }  # fmt: skip
    return {f"current__{name}": value for name, value in (facts | columns).items()}


def public_key(seed: str = "key") -> str:
    """Return a well-formed Ed25519 public key line, the same for the same seed."""
    blob = (
        (11).to_bytes(4, "big")
        + b"ssh-ed25519"
        + (32).to_bytes(4, "big")
        + hashlib.sha256(seed.encode()).digest()
    )
    return f"ssh-ed25519 {base64.b64encode(blob).decode()} {seed}"


def grant(user_or_group: User | Group, permission: str, target: Cluster | Customer) -> None:
    """Grant ``view_customer``, ``view_cluster`` or ``operate_cluster`` on one object."""
    assign_perm(f"clusters.{permission}", user_or_group, target)


def api_token(user: User, *, read_only: bool = False, name: str = "test") -> str:
    """Return the clear text of a new API token."""
    _, token = ApiToken.objects.create(user=user, name=name, read_only=read_only, expiry=None)
    return str(token)
