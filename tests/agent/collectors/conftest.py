from pathlib import Path

import pytest

from agent.collectors.kubeapi import KubeAccess
from agent.collectors.kubelet import KubeletCollector
from tests.agent.kubernetes import FakeKubernetes
from tests.agent.machine import FakeMachine

NOW = 1_800_000_000.0


@pytest.fixture
def machine(tmp_path: Path) -> FakeMachine:
    return FakeMachine(tmp_path)


@pytest.fixture
async def kubernetes(starts_servers):
    server = FakeKubernetes(NOW)
    yield server
    await server.stop()


@pytest.fixture
async def access(kubernetes, tmp_path):
    token = tmp_path / "token"
    token.write_text(kubernetes.token + "\n")
    return KubeAccess(await kubernetes.start(), token, None)


@pytest.fixture
async def collector(access):
    # Patient, so that a busy machine does not look like a dead kubelet.
    collector = KubeletCollector(access, list_seconds=30, summary_seconds=30)
    yield collector
    await collector.close()
