"""Fixtures that every test may use.

The cast: ``admin`` (superuser), ``operator`` and ``auditor`` (groups), ``viewer`` (sees the
clusters of ``customer``), ``stranger`` (sees nothing). ``cluster`` is the viewer's, and
``foreign_cluster`` another customer's.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import redis
from django.contrib.auth.models import User
from django.core.cache import cache

from clusters.access import AUDITORS, OPERATORS
from clusters.models import Cluster, Customer
from metrics.stores import close_stores, get_store
from metrics.stores.base import MetricStore
from opscenter.core.write_checks import forget_recent_problem
from tests.budgets import forget_budgets
from tests.factories import ClusterFactory, CustomerFactory, UserFactory, grant, healthy

pytest_plugins = ("tests.quick", "tests.left_out", "tests.lanes", "tests.postgresql_run")

# How long an example takes says how busy the machine is, not whether the code is right.
_UNTIMED = hypothesis.settings(
    deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.register_profile("untimed", _UNTIMED)
hypothesis.settings.register_profile("quick", _UNTIMED, max_examples=20)
hypothesis.settings.load_profile("untimed")


def pytest_configure(config: pytest.Config) -> None:
    """Try fewer examples in a quick run; the whole suite tries all (tests/examples.py)."""
    if config.option.markexpr == "quick":
        hypothesis.settings.load_profile("quick")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--metrics-store",
        choices=("sqlite", "influxdb"),
        default="sqlite",
        help="the store of tests/metrics (influxdb: the server of OPSCENTER_TEST_INFLUXDB_URL)",
    )


@pytest.fixture(autouse=True)
def _empty_cache() -> None:
    """Forget throttles and lock-outs of the test before."""
    cache.clear()


@pytest.fixture(autouse=True)
def _channel_layer_in_memory(settings) -> None:
    """Let live updates go to a layer in this process; tests of Redis set their own."""
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}


@pytest.fixture(autouse=True)
def _fresh_budgets() -> None:
    """Let each test begin with budgets of which nothing is used: all come from one address."""
    forget_budgets()


@pytest.fixture(autouse=True)
def _nothing_known_of_writes() -> None:
    """Forget what kept the test before from recording."""
    forget_recent_problem()


@pytest.fixture(autouse=True)
def _static_files_when_asked_for(settings) -> None:
    """Look for a static file when it is asked for: each new client would list all of them."""
    settings.WHITENOISE_AUTOREFRESH = True


@pytest.fixture(autouse=True)
def _quick_passwords(settings) -> None:
    """Hash passwords by a method that is quick; the real one takes 0.3 s."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture(scope="session")
def _redis_process(starts_servers) -> Iterator[str]:
    """Run one Redis for the session, on a unix socket in a short private directory."""
    binary = shutil.which("redis-server")
    assert binary, "redis-server is missing: install Debian's redis-server package"
    directory = Path(tempfile.mkdtemp(prefix="oc"))
    path = directory / "redis.sock"
    command = [binary, "--port", "0", "--unixsocket", str(path), "--unixsocketperm", "700",
               "--save", "", "--appendonly", "no", "--dir", str(directory)]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            client = redis.Redis(unix_socket_path=str(path))
            give_up_at = time.monotonic() + 30
            while True:
                try:
                    client.ping()
                    break
                except redis.ConnectionError:
                    assert process.poll() is None, "redis-server ended at once"
                    assert time.monotonic() < give_up_at, "redis-server does not answer"
                    time.sleep(0.02)
            yield f"unix://{path}"
        finally:
            process.terminate()
            process.wait(30)
            shutil.rmtree(directory)


@pytest.fixture
def redis_server(_redis_process: str, settings) -> str:
    """Return the address of a real, empty Redis; ``REDIS_URL`` points to it."""
    settings.REDIS_URL = _redis_process
    redis.Redis.from_url(_redis_process).flushall()
    return _redis_process


@pytest.fixture
def store(settings, tmp_path) -> Iterator[MetricStore]:
    """An empty metric store of this test."""
    settings.METRICS_SQLITE_PATH = tmp_path / "metrics.sqlite3"
    yield get_store()
    close_stores()


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
