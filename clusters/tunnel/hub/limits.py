"""What the hub allows: sizes, times and numbers of its connections."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Every bound of the hub; tests shorten the times. Seconds and bytes."""

    pending_handshakes: int = 150  # of addresses from which nobody signed in lately
    pending_handshakes_kept: int = 50  # places beside those, for addresses of agents
    pending_handshakes_per_address: int = 20
    known_seconds: float = 86_400  # for how long an address counts as one of an agent
    login_seconds: float = 20
    key_exchange_seconds: float = 5  # who has not exchanged keys by then is cut
    keys_offered: int = 6  # on one connection
    sign_ins: int = 6  # of one cluster in a minute
    forward_requests: int = 32  # of one session, refused ones too
    # A silent peer is cut at the (count + 1)-th timer, so within 45 s.
    keepalive_seconds: float = 15
    keepalive_count: int = 2
    suspect_keepalive_seconds: float = 1
    suspect_keepalive_count: int = 3
    suspect_seconds: float = 10
    replaced_drain_seconds: float = 60
    replacements: int = 5  # by another machine, within replacements_seconds, before a flag
    replacements_seconds: float = 600
    overlaps: int = 3  # replaced sessions that still answered, within the same time, for a flag
    forwards: int = 16
    streams: int = 8  # open channels of one tunnel
    pending_opens: int = 8  # of one service of one tunnel
    channels: int = 4000  # of the whole hub
    channels_per_cluster: int = 64  # open and pending ones, of all services
    queue_seconds: float = 2  # a client over a limit waits this long before its 429
    open_seconds: float = 5
    window_bytes: int = 512 * 1024
    head_bytes: int = 16 * 1024
    head_seconds: float = 5
    idle_seconds: float = 120
    life_seconds: float = 3600
    breaker_failures: int = 3
    breaker_seconds: float = 15
    write_seconds: float = 1  # how often one cluster's sessions are written at most
    seen_seconds: float = 15  # how often live sessions are written to the database
    recheck_seconds: float = 30  # how often their keys are looked up again
    shutdown_seconds: float = 3  # channels may finish for this long after SIGTERM

    @property
    def connections_per_minute(self) -> int:
        """Return how many connections one address may open in a minute: a fleet behind one."""
        return 30 * self.pending_handshakes_per_address
