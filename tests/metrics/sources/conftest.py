"""Real servers with known samples, one each for the session."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.metrics.sources.prometheus.seeds import Seeds, seeds
from tests.servers.prometheus import prometheus
from tests.servers.victoriametrics import victoriametrics


@pytest.fixture(scope="session")
def known() -> Seeds:
    """What the servers hold: three installations, on three days, the last one yesterday."""
    return seeds(int(time.time()) // 3600 * 3600)


@pytest.fixture(scope="session")
def seeded_prometheus(
    starts_servers, known: Seeds, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[int]:
    """Return the port of a Prometheus that holds everything of ``known``."""
    with prometheus(tmp_path_factory.mktemp("prometheus"), series=known.series()) as port:
        yield port


@pytest.fixture(scope="session")
def seeded_victoriametrics(
    starts_servers, known: Seeds, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[int]:
    """Return the port of a VictoriaMetrics that holds everything of ``known``."""
    with victoriametrics(tmp_path_factory.mktemp("victoria"), series=known.series()) as port:
        yield port
