"""How the API server is found and trusted, and what is said when it is not there."""

import ssl

import pytest

from agent.collectors.base import CollectorError
from agent.collectors.kubeapi import KubeAccess
from agent.collectors.kubelet import KubeletCollector
from tests.agent.collectors.authority import certificate

NOW = 1_800_000_000.0


async def test_only_the_clusters_own_authority_is_trusted(kubernetes, tmp_path):
    crt, key = certificate(tmp_path / "cluster", "localhost")
    other, _ = certificate(tmp_path / "other", "localhost")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(crt, key)
    url = await kubernetes.start(tls)
    token = tmp_path / "token"
    token.write_text(kubernetes.token)
    ca = tmp_path / "ca.crt"
    ca.write_bytes(other.read_bytes())
    collector = KubeletCollector(KubeAccess(url, token, ca))
    with pytest.raises(CollectorError, match=r"(?i)certificate"):
        await collector.collect(NOW)
    assert kubernetes.requests == []
    # The authority is read again when it is rotated.
    ca.unlink()
    ca.write_bytes(crt.read_bytes())
    assert (await collector.collect(NOW)).problems == {}
    await collector.close()


@pytest.mark.usefixtures("starts_servers")
async def test_an_api_server_that_is_away_is_one_clear_error(tmp_path):
    token = tmp_path / "token"
    token.write_text("x")
    collector = KubeletCollector(KubeAccess("http://127.0.0.1:1", token, None))
    with pytest.raises(CollectorError, match="/api/v1/nodes: ClientConnectorError"):
        await collector.collect(NOW)
    await collector.close()


async def test_outside_a_pod_there_is_one_clear_error(monkeypatch):
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    collector = KubeletCollector()
    with pytest.raises(CollectorError, match="no Kubernetes pod"):
        await collector.collect(NOW)
    await collector.close()


def test_the_access_of_a_pod_is_found_where_kubernetes_puts_it(tmp_path):
    environ = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"}
    assert KubeAccess.in_cluster(environ, tmp_path) is None
    (tmp_path / "token").write_text("t")
    assert KubeAccess.in_cluster({}, tmp_path) is None
    access = KubeAccess.in_cluster(environ, tmp_path)
    assert access == KubeAccess("https://[fd00::1]:443", tmp_path / "token", tmp_path / "ca.crt")
