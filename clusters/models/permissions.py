"""Who was granted which cluster or customer (:mod:`clusters.access` asks)."""

from __future__ import annotations

from django.db import models
from guardian.models import GroupObjectPermissionBase, UserObjectPermissionBase

from clusters.models.clusters import Cluster
from clusters.models.customers import Customer


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
