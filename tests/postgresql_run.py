"""Which tests run a second time, on PostgreSQL: all that use Django's database, save a few files.

What may differ there: migrations, constraints, transactions and locks, order and collation, JSON,
types and their limits, raw SQL. A new test with a database runs there without being asked; a file
is left out only by its line in :data:`LEFT_OUT`, where nothing of that kind is what it tests.
"""

from __future__ import annotations

from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parent
_FIXTURES = {"db", "transactional_db", "django_db_setup"}
_SOURCES = (
    "a source's answers and the metric store; of Django's database test_pull.py uses the same"
)
_TUNNEL = "streams and time-outs of the tunnel; its sessions and keys are those of test_sessions.py"
LEFT_OUT = {
    "agent/test_agent_and_hub.py": "agents, whose sessions tests/e2e/scene has on PostgreSQL too",
    "clusters/tunnel/client/test_http_client.py": _TUNNEL,
    "clusters/tunnel/client/test_refusals.py": _TUNNEL,
    "clusters/tunnel/hub/test_leaks.py": _TUNNEL,
    "metrics/pulling/test_backfill.py": _SOURCES,
    "metrics/pulling/test_bad_sources.py": _SOURCES,
    "metrics/pulling/test_late_data.py": _SOURCES,
    "metrics/pulling/test_pull_by_tunnel.py": _SOURCES,
    "metrics/pulling/test_pull_from_influxdb.py": _SOURCES,
    "metrics/pulling/test_replaced_source.py": _SOURCES,
    "metrics/pulling/test_sources_by_tunnel.py": _SOURCES,
    "metrics/sources/prometheus/test_stored.py": _SOURCES,
}
"""File below ``tests`` -> why it cannot differ on PostgreSQL."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--database-only",
        action="store_true",
        help="run only tests that may differ with Django's database (the second run)",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect what cannot differ on PostgreSQL."""
    if not config.getoption("--database-only"):
        return
    gone = [name for name in LEFT_OUT if not (_ROOT / name).exists()]
    if gone:  # a moved file must not run there by chance, nor a new one be left out
        raise pytest.UsageError(f"tests/postgresql_run.py names what is not there: {gone}")
    left_out = {_ROOT / name for name in LEFT_OUT}
    chosen = [item for item in items if _uses_database(item) and item.path not in left_out]
    kept = set(chosen)
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = chosen


def _uses_database(item: pytest.Item) -> bool:
    asked = _FIXTURES & set(getattr(item, "fixturenames", ()))
    return bool(asked) or item.get_closest_marker("django_db") is not None
