"""Fixtures that every test may use.

The cast: ``admin`` (superuser), ``operator`` and ``auditor`` (groups), ``viewer`` (sees the
clusters of ``customer``), ``stranger`` (sees nothing). ``cluster`` is the viewer's, and
``foreign_cluster`` another customer's.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.contrib.auth.models import User
from django.core.cache import cache

from clusters.access import AUDITORS, OPERATORS
from clusters.models import Cluster, Customer
from metrics.stores import close_stores
from tests.factories import ClusterFactory, CustomerFactory, UserFactory, grant, healthy


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--database-only",
        action="store_true",
        help="run only tests that use Django's database (the second run, on PostgreSQL)",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect what never touches Django's database: that cannot differ on PostgreSQL."""
    if not config.getoption("--database-only"):
        return
    fixtures = {"db", "transactional_db", "django_db_setup"}
    chosen = [
        item
        for item in items
        if item.get_closest_marker("django_db") or fixtures & set(getattr(item, "fixturenames", ()))
    ]
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = chosen


@pytest.fixture(autouse=True)
def _empty_cache() -> None:
    """Forget throttles and lock-outs of the test before."""
    cache.clear()


@pytest.fixture(autouse=True)
def _channel_layer_in_memory(settings) -> None:
    """Let live updates go to a layer in this process; tests of Redis set their own."""
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}


@pytest.fixture(autouse=True)
def _quick_passwords(settings) -> None:
    """Hash passwords by a method that is quick; the real one takes 0.3 s."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def admin(db: None) -> User:
    return UserFactory(username="admin", is_superuser=True, is_staff=True)


@pytest.fixture
def operator(db: None) -> User:
    return UserFactory(username="operator", groups=[OPERATORS])


@pytest.fixture
def auditor(db: None) -> User:
    return UserFactory(username="auditor", groups=[AUDITORS])


@pytest.fixture
def customer(db: None) -> Customer:
    return CustomerFactory(name="Northwind")


@pytest.fixture
def viewer(customer: Customer) -> User:
    user = UserFactory(username="viewer")
    grant(user, "view_customer", customer)
    return user


@pytest.fixture
def stranger(db: None) -> User:
    return UserFactory(username="stranger")


@pytest.fixture
def cluster(customer: Customer) -> Cluster:
    return ClusterFactory(name="north-1", customer=customer, labels={"region": "eu"}, **healthy())


@pytest.fixture
def foreign_cluster(db: None) -> Cluster:
    return ClusterFactory(name="south-1", customer=CustomerFactory(name="Southbank"), **healthy())


@pytest.fixture(autouse=True)
def _own_metric_store(settings, tmp_path) -> Iterator[None]:
    """Give each test an empty metric store of its own, made when something asks for it."""
    settings.METRICS_SQLITE_PATH = tmp_path / "metrics.sqlite3"
    yield
    close_stores()
