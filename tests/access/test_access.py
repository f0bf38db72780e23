"""Who sees what: the rules of clusters/access.py, by value and against an oracle."""

from __future__ import annotations

import uuid

import pytest
from django.contrib.auth.models import AnonymousUser, Group, Permission, User
from django.contrib.contenttypes.models import ContentType
from guardian.models import GroupObjectPermission, UserObjectPermission
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase

from clusters.access import (
    acts_on_all,
    get_cluster,
    may,
    require_create,
    sees_all,
    visible_clusters,
    visible_customers,
)
from clusters.models import Cluster, Customer
from opscenter.core.errors import ForbiddenError, NotFoundError
from tests.examples import examples
from tests.factories import ClusterFactory, CustomerFactory, UserFactory, grant

pytestmark = pytest.mark.django_db


def names(user) -> set[str]:
    return set(visible_clusters(user).values_list("name", flat=True))


def test_the_cast_sees_what_its_role_says(
    admin, operator, auditor, viewer, stranger, cluster, foreign_cluster
):
    everything = {cluster.name, foreign_cluster.name}
    assert names(admin) == names(operator) == names(auditor) == everything
    assert names(viewer) == {cluster.name}
    assert names(stranger) == names(AnonymousUser()) == set()
    assert [sees_all(u) for u in (admin, operator, auditor, viewer, stranger)] == [
        True, True, True, False, False,
    ]  # fmt: skip


def test_only_admin_and_operator_act(admin, operator, auditor, viewer, stranger, cluster):
    who = [admin, operator, auditor, viewer, stranger, AnonymousUser()]
    assert [acts_on_all(user) for user in who] == [True, True, False, False, False, False]
    for user in (auditor, viewer):
        with pytest.raises(ForbiddenError):
            get_cluster(user, cluster.pk, "operate_cluster")
    for user in (auditor, viewer, stranger, AnonymousUser()):
        with pytest.raises(ForbiddenError):
            require_create(user)
    assert get_cluster(operator, cluster.pk, "operate_cluster") == cluster


@pytest.mark.parametrize("permission", ["view_cluster", "operate_cluster"])
def test_invisible_and_absent_are_the_same_error(viewer, foreign_cluster, permission):
    answers = []
    for wanted in (foreign_cluster.pk, uuid.uuid4(), str(foreign_cluster.pk), "no uuid", ""):
        with pytest.raises(NotFoundError) as caught:
            get_cluster(viewer, wanted, permission)
        answers.append(str(caught.value))
    assert set(answers) == {"Not found."}


def test_an_inactive_user_sees_nothing_in_any_role(cluster, customer):
    group = Group.objects.get(name="operators")
    for user in (
        UserFactory(is_active=False, is_superuser=True),
        UserFactory(is_active=False, groups=["operators"]),
        UserFactory(is_active=False),
    ):
        grant(user, "view_customer", customer)
        grant(user, "view_cluster", cluster)
        assert names(user) == set()
        assert not visible_customers(user).exists()
        assert not sees_all(user)
        assert not may(user, cluster, "view_cluster")
    assert group.user_set.count() == 1


def test_a_model_wide_permission_shows_nothing(stranger, cluster):
    for model in (Cluster, Customer):
        stranger.user_permissions.add(
            *Permission.objects.filter(content_type=ContentType.objects.get_for_model(model))
        )
    user = User.objects.get(pk=stranger.pk)
    assert user.has_perm("clusters.view_cluster")
    assert names(user) == set()
    assert not visible_customers(user).exists()


def test_a_right_that_is_not_listed_is_refused(operator, admin, cluster):
    assert not may(operator, cluster, "delete_cluster")
    assert not may(admin, cluster, "")


def test_a_delegate_acts_on_the_granted_cluster_only(viewer, cluster, foreign_cluster):
    other = ClusterFactory(customer=cluster.customer)
    grant(viewer, "operate_cluster", cluster)
    assert get_cluster(viewer, cluster.pk, "operate_cluster") == cluster
    with pytest.raises(ForbiddenError):
        get_cluster(viewer, other.pk, "operate_cluster")


def test_the_right_to_act_without_the_right_to_see_gives_nothing(stranger, cluster):
    grant(stranger, "operate_cluster", cluster)
    with pytest.raises(NotFoundError):
        get_cluster(stranger, cluster.pk, "operate_cluster")


def test_an_auditor_never_acts_not_even_with_a_grant(auditor, cluster):
    grant(auditor, "operate_cluster", cluster)
    with pytest.raises(ForbiddenError):
        get_cluster(auditor, cluster.pk, "operate_cluster")


def test_grants_live_in_the_direct_tables_and_go_with_the_cluster(stranger, cluster):
    grant(stranger, "view_cluster", cluster)
    grant(Group.objects.create(name="bank"), "view_cluster", cluster)
    grant(stranger, "view_customer", cluster.customer)
    assert not UserObjectPermission.objects.exists()
    assert not GroupObjectPermission.objects.exists()
    pk = cluster.pk
    cluster.delete()
    ClusterFactory(pk=pk, name="reborn")
    assert names(stranger) == set()


def test_a_list_and_everything_below_it_is_one_query(
    viewer, cluster, foreign_cluster, django_assert_num_queries
):
    names(viewer)  # content types and permissions are cached by the first call
    with django_assert_num_queries(2):  # the role groups, the list
        assert names(viewer) == {cluster.name}


class OracleTest(TestCase):
    """Random customers, clusters and grants: the list is what the rules say, one by one."""

    @settings(
        max_examples=examples(25), deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
    @given(
        owners=st.lists(st.integers(0, 2), min_size=1, max_size=5),
        customer_grants=st.sets(st.tuples(st.integers(0, 2), st.booleans()), max_size=4),
        cluster_grants=st.sets(st.tuples(st.integers(0, 4), st.booleans()), max_size=4),
    )
    def test_the_list_is_the_union_of_the_grants(self, owners, customer_grants, cluster_grants):
        user, group = UserFactory(), Group.objects.create(name=str(uuid.uuid4()))
        user.groups.add(group)
        customers = CustomerFactory.create_batch(3)
        clusters = [ClusterFactory(customer=customers[owner]) for owner in owners]
        for index, by_group in customer_grants:
            grant(group if by_group else user, "view_customer", customers[index])
        for index, by_group in cluster_grants:
            if index < len(clusters):
                grant(group if by_group else user, "view_cluster", clusters[index])
        seen_customers = {index for index, _ in customer_grants}
        seen_clusters = {index for index, _ in cluster_grants}
        expected = {
            cluster.pk
            for index, cluster in enumerate(clusters)
            if owners[index] in seen_customers or index in seen_clusters
        }
        assert set(visible_clusters(user).values_list("pk", flat=True)) == expected
        for cluster in clusters:
            if cluster.pk in expected:
                assert get_cluster(user, cluster.pk) == cluster
            else:
                with pytest.raises(NotFoundError):
                    get_cluster(user, cluster.pk)
