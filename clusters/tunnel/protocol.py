"""What both ends of a tunnel agree on: service names and ports, algorithms, limits.

The wire is plain SSH-2. The user name is the cluster's UUID; each service is one remote forward
(``tcpip-forward``) whose host is the service's name and whose port is its well-known port, so
that a stock ``ssh -R agent:9099:127.0.0.1:9099`` is a complete agent (``docs/tunnel.md``).
"""

from __future__ import annotations

from dataclasses import dataclass

SERVICE_PORTS = {
    "agent": 9099,
    "prometheus": 9090,
    "alertmanager": 9093,
    "kapacitor": 9092,
    "influxdb": 8086,
    "satellite": 7575,
    "kube-api": 443,
    "etcd": 2379,
}

# The client's order decides; agents put aes128-gcm first: half the CPU of chacha20.
KEX_ALGORITHMS = ("curve25519-sha256", "curve25519-sha256@libssh.org", "mlkem768x25519-sha256")
CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com")
MACS = ("hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com")

WEBSOCKET_PROTOCOL = "opscenter-ssh-v1"
WEBSOCKET_PATH = "/tunnel"


@dataclass(frozen=True, slots=True)
class Limits:
    """Every bound of the hub; tests shorten the times. Seconds and bytes."""

    pending_handshakes: int = 150
    pending_handshakes_per_address: int = 20
    login_seconds: float = 20
    # A silent peer is cut at the (count + 1)-th timer, so within 45 s.
    keepalive_seconds: float = 15
    keepalive_count: int = 2
    suspect_keepalive_seconds: float = 1
    suspect_keepalive_count: int = 3
    suspect_seconds: float = 10
    replaced_drain_seconds: float = 60
    replacements: int = 5  # from different places, within replacements_seconds, before a flag
    replacements_seconds: float = 600
    forwards: int = 16
    streams: int = 8  # open channels of one tunnel
    pending_opens: int = 8  # of one service of one tunnel
    channels: int = 4000  # of the whole hub
    queue_seconds: float = 2  # a caller over a limit waits this long before its 429
    open_seconds: float = 5
    window_bytes: int = 512 * 1024
    head_bytes: int = 16 * 1024
    head_seconds: float = 5
    idle_seconds: float = 120
    life_seconds: float = 3600
    breaker_failures: int = 3
    breaker_seconds: float = 15
    seen_seconds: float = 15  # how often live sessions are written to the database
    recheck_seconds: float = 30  # how often their keys are looked up again
    shutdown_seconds: float = 3  # channels may finish for this long after SIGTERM
