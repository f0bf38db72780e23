"""When to dial again, and where: pure functions, so that their rules are tested by value.

Full jitter (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/) spreads a
fleet whose hub came back; back-off is reset only after a session has lived long enough, or a hub
that accepts and drops would be dialled in a tight loop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

BASE_SECONDS = 2.0
CAP_SECONDS = 60.0
STABLE_SECONDS = 60.0
"""A session that lived for so many seconds proves the path: back-off is reset."""
REFUSALS_BEFORE_SWITCH = 3
"""Failures in a row on one transport before the other is tried."""

TCP, WEBSOCKET = "tcp", "ws"


def retry_ceiling_seconds(attempt: int) -> float:
    """Return the longest wait after ``attempt`` failures (0 is the first): 2, 4, 8 ... 60 s."""
    if attempt < 0:
        raise ValueError(f"attempt must not be negative, got {attempt}")
    return min(CAP_SECONDS, BASE_SECONDS * 2.0 ** min(attempt, 16))


def retry_delay_seconds(attempt: int, uniform: Callable[[float, float], float]) -> float:
    """Return how many seconds to wait before the next dial: uniform up to the ceiling."""
    return uniform(0.0, retry_ceiling_seconds(attempt))


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address of a hub.

    ``address`` is ``host:port`` for TCP and a ``ws://`` or ``wss://`` URL for WEBSOCKET.
    """

    transport: str
    address: str

    def __str__(self) -> str:
        return self.address


@dataclass(frozen=True, slots=True)
class DialState:
    """The state between two dials.

    Attributes:
        attempt: failures since the last session that lived long enough.
        transport: the transport in use.
        unreached: dials in a row on this transport that reached no SSH server.
        position: index of the transport's next address.
    """

    transport: str = TCP
    attempt: int = 0
    unreached: int = 0
    position: int = 0


def first_state(addresses: Sequence[str], ws_urls: Sequence[str], preference: str) -> DialState:
    """Return where to begin: TCP unless there is none or the configuration says ``ws``.

    Raises:
        ValueError: if the preference allows none of the addresses.
    """
    usable = _usable(addresses, ws_urls, preference)
    if not usable:
        raise ValueError(f"the hub gave no address for transport {preference!r}")
    return DialState(transport=usable[0])


def endpoint_of(state: DialState, addresses: Sequence[str], ws_urls: Sequence[str]) -> Endpoint:
    """Return the endpoint that the state points at; its transport has at least one address."""
    choices = addresses if state.transport == TCP else ws_urls
    return Endpoint(state.transport, choices[state.position % len(choices)])


def after_failure(
    state: DialState,
    addresses: Sequence[str],
    ws_urls: Sequence[str],
    preference: str,
    *,
    reached: bool,
) -> DialState:
    """Return the state after a dial that gave no working session.

    Args:
        state: state before the dial.
        addresses: TCP addresses, in order.
        ws_urls: WebSocket URLs, in order.
        preference: the transport to use, ``auto``, ``tcp`` or ``ws``.
        reached: True if an SSH server answered and refused us: another transport would not help,
            another address may.
    """
    unreached = 0 if reached else state.unreached + 1
    after = replace(
        state, attempt=state.attempt + 1, unreached=unreached, position=state.position + 1
    )
    if unreached < REFUSALS_BEFORE_SWITCH:
        return after
    usable = _usable(addresses, ws_urls, preference)
    other = usable[(usable.index(state.transport) + 1) % len(usable)]
    return replace(after, transport=other, unreached=0, position=0)


def after_session(state: DialState, lived_seconds: float) -> DialState:
    """Return the state after a session that was ready; its endpoint is tried first again."""
    if lived_seconds >= STABLE_SECONDS:
        return replace(state, attempt=0, unreached=0)
    return replace(state, attempt=state.attempt + 1, unreached=0)


def back_to_tcp(state: DialState) -> DialState:
    """Return the state after TCP was seen to work while a WebSocket session was up."""
    return replace(state, transport=TCP, attempt=0, unreached=0, position=0)


def _usable(addresses: Sequence[str], ws_urls: Sequence[str], preference: str) -> list[str]:
    """Return the transports that may be dialled, preferred first."""
    offered = {TCP: bool(addresses), WEBSOCKET: bool(ws_urls)}
    wanted = [TCP, WEBSOCKET] if preference == "auto" else [preference]
    return [transport for transport in wanted if offered.get(transport)]
