import asyncio
import logging
import ssl

import pytest

from agent.collectors.kubeapi import KubeAccess, KubeApi
from tests.agent.collectors.authority import certificate
from tests.agent.kubernetes import ServiceAccountFiles


@pytest.fixture
async def by_tls(kubernetes, tmp_path):
    """Return an API client, and the files of its service account that the kubelet rotates."""
    crt, key = certificate(tmp_path / "cluster", "localhost")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(crt, key)
    url = await kubernetes.start(tls)
    files = ServiceAccountFiles(
        tmp_path / "account", token=kubernetes.token, authority=crt.read_text()
    )
    api = KubeApi(KubeAccess(url, files.token, files.ca))
    yield api, files
    await api.close()


async def both_lists(api):
    """Ask for both lists at one moment, as the collector does; return how long each is."""
    paths = ("/api/v1/nodes", "/api/v1/pods")
    lists = await asyncio.gather(*(api.list_all(path, deadline_seconds=30) for path in paths))
    return [len(found) for found in lists]


async def test_a_rotation_that_changes_only_the_token_keeps_the_connections(kubernetes, by_tls):
    api, files = by_tls
    await both_lists(api)
    session = api._session
    kubernetes.token = "second-token"
    files.rotate("second-token")
    assert await both_lists(api) == [2, 1]
    assert api._session is session


async def test_a_new_authority_loses_no_session_when_two_requests_find_it(
    kubernetes, by_tls, tmp_path, caplog
):
    api, files = by_tls
    await both_lists(api)
    former = api._session
    other, _ = certificate(tmp_path / "other", "localhost")
    files.rotate(kubernetes.token, files.ca.read_text() + other.read_text())
    with caplog.at_level(logging.ERROR, "asyncio"):
        assert await both_lists(api) == [2, 1]
        assert former.client.closed
        assert not api._session.client.closed
    assert [record.message for record in caplog.records] == []


async def test_a_request_that_runs_when_the_authority_changes_still_ends(
    kubernetes, by_tls, tmp_path
):
    api, files = by_tls
    path = "/api/v1/nodes/n1/proxy/stats/summary"
    held = kubernetes.hold = asyncio.Event()
    running = asyncio.create_task(api.get(path, deadline_seconds=30))
    await kubernetes.asked.wait()
    former = api._session
    other, _ = certificate(tmp_path / "other", "localhost")
    files.rotate(kubernetes.token, files.ca.read_text() + other.read_text())
    assert await both_lists(api) == [2, 1]
    assert not former.client.closed
    held.set()
    assert "node" in await running
    assert former.client.closed


async def test_an_authority_that_is_none_is_one_clear_error(kubernetes, by_tls):
    api, files = by_tls
    files.rotate(kubernetes.token, "no certificate")
    with pytest.raises(Exception, match="authority cannot be used"):
        await both_lists(api)
