"""The agent's own list of what may be reached through its tunnel: service -> target.

The hub asks for a service by name and never names an address, so whoever controls the hub reaches
what is listed here and nothing else. There is no SOCKS, no direct forwarding and no wildcard.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

AGENT = "agent"
# The protocol's well-known ports: the port of a service's remote forward (docs/tunnel.md). The hub
# has a copy, which this package must not import; a test compares the two.
SERVICE_PORTS: Mapping[str, int] = MappingProxyType(
    {
        AGENT: 9099,
        "prometheus": 9090,
        "alertmanager": 9093,
        "kapacitor": 9092,
        "influxdb": 8086,
        "satellite": 7575,
        "kube-api": 443,
        "etcd": 2379,
    }
)
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")
_IPV6 = re.compile(r"\[[0-9A-Fa-f:.]{2,45}\]")


class TargetError(Exception):
    """A service or target that cannot be allowed; the message says which and why."""


@dataclass(frozen=True, slots=True)
class TcpTarget:
    """A host (name or address, as seen from the agent) and port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class UnixTarget:
    """A unix socket on the agent's machine."""

    path: str

    def __str__(self) -> str:
        return self.path


Target = TcpTarget | UnixTarget


@dataclass(frozen=True, slots=True)
class AllowList:
    """Services that the agent offers, each with its one target."""

    targets: Mapping[str, Target] = field(default_factory=dict)

    def with_agent(self, target: Target) -> AllowList:
        """Return the list with the agent's own local API added."""
        return AllowList({AGENT: target, **self.targets})

    def forwards(self) -> list[tuple[str, int, Target]]:
        """Return (service, well-known port, target) in the order in which they are requested."""
        return [(name, SERVICE_PORTS[name], target) for name, target in self.targets.items()]


def parse_services(value: Any) -> AllowList:
    """Read ``{prometheus: host:port}`` or the text ``prometheus=host:port,influxdb=host:port``.

    A target that starts with ``/`` is a unix socket.

    Raises:
        TargetError: for an unknown service, the reserved ``agent``, a service named twice, or a
            target that is not one host and one port.
    """
    if isinstance(value, str):
        pairs = [_split(part) for part in value.split(",") if part.strip()]
    elif isinstance(value, Mapping):
        pairs = [(str(name), target) for name, target in value.items()]
    else:
        raise TargetError("must be a map of service to host:port")
    targets: dict[str, Target] = {}
    for name, target in pairs:
        if name == AGENT:
            raise TargetError(f"{AGENT!r} is the agent's own API and cannot be set")
        if name not in SERVICE_PORTS:
            known = ", ".join(sorted(set(SERVICE_PORTS) - {AGENT}))
            raise TargetError(f"{name[:60]!r} is not a known service; known are {known}")
        if name in targets:
            raise TargetError(f"{name!r} is named twice")
        targets[name] = _target(name, target)
    return AllowList(targets)


def _split(part: str) -> tuple[str, str]:
    name, equals, target = part.partition("=")
    if not equals:
        raise TargetError(f"{part.strip()[:60]!r} does not read service=host:port")
    return name.strip(), target.strip()


def _target(name: str, value: Any) -> Target:
    text = value.strip() if isinstance(value, str) else ""
    if text.startswith("/") and text.isprintable():
        return UnixTarget(text)
    host, _, port = text.rpartition(":")
    if not port.isascii() or not port.isdigit() or not 0 < int(port[:6]) <= 65535:
        raise TargetError(f"the target of {name!r} must read host:port")
    if _IPV6.fullmatch(host):
        return TcpTarget(host[1:-1], int(port))
    if not _HOST.fullmatch(host):
        raise TargetError(f"the target of {name!r} must read host:port")
    return TcpTarget(host, int(port))
