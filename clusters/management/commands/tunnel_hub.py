"""Run the hub: the process that agents dial and that pulls go through."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import signal
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError

from clusters.tunnel.host_key import ensure_host_key
from clusters.tunnel.hub.limits import Limits
from clusters.tunnel.hub.process import Hub, HubConfig
from clusters.tunnel.hub.sockets import PortInUseError


class Command(BaseCommand):
    """``manage.py tunnel_hub``."""

    help = "Accept agents' tunnels (SSH, also inside WebSockets) and serve the gateway for pulls."
    requires_system_checks = ()

    def handle(self, *args: Any, **options: Any) -> None:
        """Serve until SIGTERM or SIGINT."""
        raise_open_files()
        try:
            asyncio.run(serve(config_from_settings()))
        except (PortInUseError, ImproperlyConfigured) as exc:
            raise CommandError(str(exc), returncode=2) from exc


def config_from_settings() -> HubConfig:
    """Return the hub's configuration from the environment.

    Raises:
        ImproperlyConfigured: if the host key cannot be used.
    """
    if not 1 <= len(settings.HUB_ID) <= 40:
        msg = f"OPSCENTER_HUB_ID={settings.HUB_ID!r} must have 1 to 40 characters"
        raise ImproperlyConfigured(msg)
    return HubConfig(
        hub_id=settings.HUB_ID,
        host=settings.HUB_HOST,
        port=settings.HUB_PORT,
        ws_port=settings.HUB_WS_PORT,
        gateway_url=settings.GATEWAY_URL,
        host_key=ensure_host_key(settings.HUB_HOST_KEY_PATH),
        redis_url=settings.REDIS_URL,
        trusted_proxies=tuple(settings.HUB_TRUSTED_PROXIES),
        limits=Limits(
            keepalive_seconds=settings.HUB_KEEPALIVE_SECONDS,
            pending_handshakes_per_address=settings.HUB_HANDSHAKES_PER_ADDRESS,
            streams=settings.HUB_MAX_STREAMS,
            shutdown_seconds=settings.HUB_DRAIN_SECONDS,
        ),
    )


def raise_open_files() -> None:
    """Raise the limit of open files to the system's: tunnels and streams take one each."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65_536 if hard == resource.RLIM_INFINITY else hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def serve(config: HubConfig) -> None:
    """Run a hub until a signal; a second signal ends it without waiting."""
    hub = Hub(config)
    await hub.start()
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await stop.wait()
    stop.clear()
    stopping = asyncio.create_task(hub.stop())
    again = asyncio.create_task(stop.wait())
    await asyncio.wait((stopping, again), return_when=asyncio.FIRST_COMPLETED)
    again.cancel()
    if not stopping.done():
        stopping.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await stopping
