"""What is connected: customers, clusters, their keys, join tokens, tunnel sessions and status.

Writes go through :mod:`clusters.services`, reads by users through :mod:`clusters.access` and
:mod:`clusters.selectors`. Times are aware UTC.
"""

from __future__ import annotations

from clusters.models.api_tokens import ApiToken
from clusters.models.audit import AuditEvent
from clusters.models.clusters import CLUSTER_NAME, Cluster
from clusters.models.customers import Customer
from clusters.models.history import ClusterEvent
from clusters.models.inventory import ClusterNode
from clusters.models.keys import ClusterKey, JoinToken
from clusters.models.legal_holds import LegalHold
from clusters.models.permissions import (
    ClusterGroupObjectPermission,
    ClusterUserObjectPermission,
    CustomerGroupObjectPermission,
    CustomerUserObjectPermission,
)
from clusters.models.sessions import TunnelSession
from clusters.models.status import ClusterStatus

__all__ = [
    "CLUSTER_NAME", "ApiToken", "AuditEvent", "Cluster", "ClusterEvent",
    "ClusterGroupObjectPermission", "ClusterKey", "ClusterNode", "ClusterStatus",
    "ClusterUserObjectPermission", "Customer", "CustomerGroupObjectPermission",
    "CustomerUserObjectPermission", "JoinToken", "LegalHold", "TunnelSession",
]  # fmt: skip
