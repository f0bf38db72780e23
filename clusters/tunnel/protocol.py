"""What both ends of a tunnel agree on: service names and ports, algorithms, limits.

The wire is plain SSH-2. The user name is the cluster's UUID; each service is one remote forward
(``tcpip-forward``) whose host is the service's name and whose port is its well-known port, so
that a stock ``ssh -R agent:9099:127.0.0.1:9099`` is a complete agent (``docs/tunnel.md``).
"""

from __future__ import annotations

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
