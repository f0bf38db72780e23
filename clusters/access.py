"""Who sees which cluster and who may act on it: every permission rule of the centre is here.

========== ============================================== ======== =========
role       how it is given                                sees     acts on
========== ============================================== ======== =========
admin      superuser                                      all      all; sets retention and
                                                                   holds, erases customers
operator   member of the group ``operators``              all      all
auditor    member of the group ``auditors``               all      nothing
customer   ``view_customer`` on a customer, or            those    nothing
           ``view_cluster`` on a single cluster
delegate   as customer, plus ``operate_cluster`` on a     those    that one
           cluster that is visible anyway
========== ============================================== ======== =========

Grants are guardian object permissions, on the user or on a group. Everything fails closed: an
anonymous or inactive user sees nothing, a model-wide permission grants nothing
(``accept_global_perms=False``), a right that is not listed here is refused. What is below a
cluster is scoped by ``cluster__in=visible_clusters(user)``; metric queries take a
:class:`~clusters.models.Cluster` that came from here, never an id.
"""

from __future__ import annotations

from typing import Literal
from uuid import UUID

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser, User
from django.db.models import Q, QuerySet
from guardian.shortcuts import get_objects_for_user

from clusters.models import Cluster, Customer
from opscenter.core.errors import ConflictError, ForbiddenError, NotFoundError

OPERATORS = "operators"
AUDITORS = "auditors"

ClusterPermission = Literal["view_cluster", "operate_cluster"]
AnyUser = AbstractBaseUser | AnonymousUser


def sees_all(user: AnyUser) -> bool:
    """Return whether the user sees every cluster: admin, operator or auditor. One query."""
    return _is_admin(user) or bool(_role_groups(user))


def acts_on_all(user: AnyUser) -> bool:
    """Return whether the user may act on every cluster and create new ones. One query."""
    return _is_admin(user) or OPERATORS in _role_groups(user)


def visible_customers(user: AnyUser) -> QuerySet[Customer]:
    """Return the customers whose clusters the user sees, all of them for those who see all."""
    if not _may_sign_in(user):
        return Customer.objects.none()
    if sees_all(user):
        return Customer.objects.all()
    return _granted_customers(user)


def visible_clusters(user: AnyUser) -> QuerySet[Cluster]:
    """Return the clusters that the user sees; empty for anonymous and inactive users.

    The grants are sub-queries, so that a filter on the result stays one query.
    """
    if not _may_sign_in(user):
        return Cluster.objects.none()
    if sees_all(user):
        return Cluster.objects.all()
    return Cluster.objects.filter(
        Q(customer__in=_granted_customers(user).order_by())
        | Q(pk__in=_granted_clusters(user, "view_cluster"))
    )


def get_cluster(
    user: AnyUser, cluster_id: UUID | str, permission: ClusterPermission = "view_cluster"
) -> Cluster:
    """Return one cluster with its customer and current status.

    Raises:
        NotFoundError: if there is none with this id or the user does not see it; the two answers
            are identical.
        ForbiddenError: if the user sees it and lacks ``permission``.
    """
    try:
        wanted = cluster_id if isinstance(cluster_id, UUID) else UUID(str(cluster_id))
    except ValueError as exc:
        raise NotFoundError("Not found.") from exc
    cluster = visible_clusters(user).select_related("customer", "current").filter(pk=wanted).first()
    if cluster is None:
        raise NotFoundError("Not found.")
    require(user, cluster, permission)
    return cluster


def require(user: AnyUser, cluster: Cluster, permission: ClusterPermission) -> None:
    """Check a right on a cluster that the user already sees.

    Raises:
        ForbiddenError: if the user lacks it.
    """
    if not may(user, cluster, permission):
        msg = f"You can see the cluster {cluster.name}, but you are not allowed to do this with it."
        raise ForbiddenError(msg)


def may(user: AnyUser, cluster: Cluster, permission: ClusterPermission) -> bool:
    """Return whether the user has a right on a cluster that came from this module."""
    if not _may_sign_in(user):
        return False
    if permission == "operate_cluster":
        return _may_operate(user, cluster)
    return permission == "view_cluster"


def require_create(user: AnyUser) -> None:
    """Check the right to add a cluster.

    Raises:
        ForbiddenError: if the user is neither admin nor operator.
    """
    if not acts_on_all(user):
        raise ForbiddenError("Only operators can add clusters.")


def require_rename(user: AnyUser) -> None:
    """Check the right to choose the name of a cluster, which no other cluster may have.

    Whoever does not act on all would learn which names other customers' clusters have; so the
    answer is the same for every name, taken or not.

    Raises:
        ConflictError: if the user is neither admin nor operator.
    """
    if not acts_on_all(user):
        raise ConflictError("name: this name cannot be used")


def require_sees_all(user: AnyUser) -> None:
    """Check the right to see what belongs to no single customer.

    Raises:
        ForbiddenError: if the user is neither admin, operator nor auditor.
    """
    if not sees_all(user):
        raise ForbiddenError("Only operators and auditors can see this.")


def may_manage_retention(user: AnyUser) -> bool:
    """Return whether the user may change retention, place holds and erase data: admins only."""
    return _is_admin(user)


def require_manage_retention(user: AnyUser) -> None:
    """Check the right to change retention, to place and lift holds, and to erase.

    Raises:
        ForbiddenError: if the user is no admin.
    """
    if not may_manage_retention(user):
        raise ForbiddenError("Only administrators can change retention.")


def get_customer(user: AnyUser, customer_id: UUID | str) -> Customer:
    """Return one customer whose clusters the user sees.

    Raises:
        NotFoundError: if there is none with this id or the user does not see it.
    """
    try:
        wanted = customer_id if isinstance(customer_id, UUID) else UUID(str(customer_id))
    except ValueError as exc:
        raise NotFoundError("Not found.") from exc
    customer = visible_customers(user).filter(pk=wanted).first()
    if customer is None:
        raise NotFoundError("Not found.")
    return customer


def _may_operate(user: AnyUser, cluster: Cluster) -> bool:
    if acts_on_all(user):
        return True
    if AUDITORS in _role_groups(user):
        return False
    return _granted_clusters(user, "operate_cluster").filter(pk=cluster.pk).exists()


def _granted_customers(user: AnyUser) -> QuerySet[Customer]:
    granted: QuerySet[Customer] = get_objects_for_user(
        user, "clusters.view_customer", Customer, accept_global_perms=False
    )
    return granted


def _granted_clusters(user: AnyUser, permission: ClusterPermission) -> QuerySet[Cluster]:
    """Return the clusters with an object grant, ignoring model-wide permissions."""
    granted: QuerySet[Cluster] = get_objects_for_user(
        user, f"clusters.{permission}", Cluster, accept_global_perms=False
    )
    return granted.order_by()


def _may_sign_in(user: AnyUser) -> bool:
    """Return whether this is a known, active user."""
    return user.is_authenticated and user.is_active


def _is_admin(user: AnyUser) -> bool:
    return _may_sign_in(user) and bool(getattr(user, "is_superuser", False))


def _role_groups(user: AnyUser) -> frozenset[str]:
    """Return which of the two role groups the user is in; none for anonymous and inactive."""
    if not isinstance(user, User) or not _may_sign_in(user):
        return frozenset()
    names = user.groups.filter(name__in=(OPERATORS, AUDITORS)).values_list("name", flat=True)
    return frozenset(names)
