"""``python -m agent check``: what works and what does not, one line each, changing nothing.

It never signs in at the hub: the newest session of a cluster takes over, so that would cut off a
running agent.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import asyncssh

from agent.collectors.base import CollectorError
from agent.config import Config
from agent.enrol import fingerprint
from agent.service import collector_kind, make_collector
from agent.state import Enrolment, StateError, prepare_data_dir, read_enrolment
from agent.tunnel.backoff import TCP, WEBSOCKET, Endpoint
from agent.tunnel.egress import EgressError, open_socket, split_address
from agent.tunnel.reach import Reach
from agent.tunnel.targets import Target, UnixTarget
from agent.tunnel.websocket import carried_by_websocket

DEADLINE_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check."""

    ok: bool
    text: str


async def check(config: Config) -> AsyncIterator[Finding]:
    """Check the data directory, the collector, each service's target and each endpoint of a hub."""
    try:
        prepare_data_dir(config.data_dir)
        enrolment = read_enrolment(config.data_dir)
    except StateError as exc:
        yield Finding(ok=False, text=str(exc))
        return
    yield Finding(ok=True, text=f"data directory {config.data_dir}")
    yield await _check_collector(config)
    for name, _, target in config.services.forwards():
        yield await _check_target(name, target)
    if enrolment is None:
        yield Finding(ok=False, text="not joined yet: run it with a URL and a token")
        return
    yield Finding(ok=True, text=f"joined as {enrolment.cluster_name} ({enrolment.cluster_id})")
    for endpoint in _endpoints(enrolment, config.transport):
        yield await _check_hub(endpoint, enrolment)


async def _check_collector(config: Config) -> Finding:
    kind = collector_kind(config)
    try:
        collector = make_collector(config)
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                collected = await collector.collect(0.0)
        finally:
            await collector.close()
    except TimeoutError:
        return Finding(ok=False, text=f"collector {kind} took over {DEADLINE_SECONDS:.0f} s")
    except CollectorError as exc:
        return Finding(ok=False, text=f"collector {kind}: {exc}")
    counts = {
        name: sum(1 for sample in collected.samples if sample.kind == name)
        for name in ("node", "filesystem", "pod")
    }
    shown = ", ".join(f"{count} {name}s" for name, count in counts.items())
    if collected.problems:
        return Finding(
            ok=False, text=f"collector {kind}: {shown}; {'; '.join(collected.problem_texts)}"
        )
    return Finding(ok=True, text=f"collector {kind}: {shown}")


async def _check_target(name: str, target: Target) -> Finding:
    try:
        async with asyncio.timeout(5):
            if isinstance(target, UnixTarget):
                _, writer = await asyncio.open_unix_connection(target.path)
            else:
                _, writer = await asyncio.open_connection(target.host, target.port)
    except TimeoutError:
        return Finding(ok=False, text=f"service {name}: {target} does not answer")
    except OSError as exc:
        return Finding(ok=False, text=f"service {name}: {target}: {exc.strerror or exc}")
    writer.close()
    return Finding(ok=True, text=f"service {name}: {target} accepts")


def _endpoints(enrolment: Enrolment, transport: str) -> list[Endpoint]:
    endpoints = [Endpoint(TCP, address) for address in enrolment.addresses]
    endpoints += [Endpoint(WEBSOCKET, url) for url in enrolment.ws_urls]
    return [found for found in endpoints if transport in ("auto", found.transport)]


async def _check_hub(endpoint: Endpoint, enrolment: Enrolment) -> Finding:
    """Connect and read the host key, which comes before any sign-in."""
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            presented = await _host_key(endpoint, enrolment.centre)
    except TimeoutError:
        return Finding(ok=False, text=f"hub {endpoint}: no SSH answer")
    except (EgressError, OSError, asyncssh.Error) as exc:
        return Finding(ok=False, text=f"hub {endpoint}: {exc}")
    expected = [fingerprint(line) for line in enrolment.host_keys]
    if presented not in expected:
        text = f"hub {endpoint}: host key {presented}, expected {', '.join(expected)}"
        return Finding(ok=False, text=text)
    return Finding(ok=True, text=f"hub {endpoint}: answers with the pinned host key")


async def _host_key(endpoint: Endpoint, centre: Reach | None) -> str:
    if endpoint.transport == TCP:
        sock = await open_socket(*split_address(endpoint.address), centre=centre)
        key = await asyncssh.get_server_host_key("hub", sock=sock, config=None)
    else:
        async with carried_by_websocket(endpoint.address, centre=centre) as sock:
            key = await asyncssh.get_server_host_key("hub", sock=sock, config=None)
    return key.get_fingerprint() if key is not None else "none"
