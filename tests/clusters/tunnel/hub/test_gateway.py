"""What the gateway uses of asyncssh, besides its documented interface."""

from __future__ import annotations

from asyncssh.forward import SSHForwarder

from clusters.tunnel.hub.gateway import GatewayConnection


def test_asyncssh_still_keeps_a_forwarders_early_bytes_where_the_gateway_looks():
    ours, advice = GatewayConnection.__module__, "read asyncssh's changes and adapt it"
    side = SSHForwarder()
    for name, value in (("_inpbuf", b""), ("_peer", None), ("_transport", None)):
        assert getattr(side, name, "nothing") == value, (
            f"asyncssh's SSHForwarder no longer begins with {name} = {value!r}, which {ours} "
            f"reads: {advice}"
        )
    side.data_received(b"early")
    side.data_received(b" bytes")
    assert side._inpbuf == b"early bytes", (
        "asyncssh's SSHForwarder no longer collects in _inpbuf what comes before it has a peer, "
        f"which {ours} passes on: {advice}"
    )
