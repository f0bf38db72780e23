"""A key signs in as its own cluster only, whatever the peer says on the way."""

from __future__ import annotations

import asyncssh
import pytest

from tests.clusters.tunnel.conftest import connect, make_identity


@pytest.fixture
async def evil(hub, tmp_path):
    return await make_identity(tmp_path, "evil-1")


async def test_a_key_does_not_sign_in_as_another_cluster_by_changing_the_name(hub, identity, evil):
    """The query names the key's own cluster, the signed request another one."""

    class Client(asyncssh.SSHClient):
        def connection_made(self, conn):
            send = conn.send_userauth_request

            async def renamed(method, *args, key=None, trivial=True):
                if key is not None:
                    conn._username = identity.user
                await send(method, *args, key=key, trivial=trivial)

            conn.send_userauth_request = renamed

    with pytest.raises(asyncssh.PermissionDenied):
        await connect(hub, evil, client_factory=Client)
    assert hub.registry.sessions() == []
