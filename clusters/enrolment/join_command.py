"""What a new agent needs to dial in: the hub's addresses and keys, and the command to run."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from django.conf import settings

from clusters.tunnel.host_key import host_key_fingerprint, host_key_line


@dataclass(frozen=True, slots=True)
class HubInfo:
    """Where agents dial, and the host keys they must find there."""

    addresses: list[str]  # host:port
    ws_urls: list[str]
    known_hosts: list[str]  # "ssh-ed25519 AAAA..."


def hub_info() -> HubInfo:
    """Return what an agent learns at enrolment."""
    return HubInfo([settings.HUB_PUBLIC_ADDRESS], [settings.HUB_PUBLIC_WS_URL], [host_key_line()])


def join_command(token: str) -> str:
    """Return the command that enrols an agent and keeps it running, ready to paste.

    It carries the hub key's fingerprint, so that plain http cannot swap the hub. The token is in
    the environment, which other users of that machine cannot read; arguments they can.
    """
    options = {"--url": settings.PUBLIC_URL, "--hub-key": host_key_fingerprint()}
    shown = " ".join(f"{name} {shlex.quote(value)}" for name, value in options.items())
    return f"OPSCENTER_AGENT_TOKEN={shlex.quote(token)} python -m agent run {shown}"
