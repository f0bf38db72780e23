"""How far a cluster's enrolment is: the steps from a join token to the first data.

The page of a new cluster shows them as they happen, and what to check if one does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from django.conf import settings

from clusters.models import AuditEvent, Cluster, ClusterKey, JoinToken
from clusters.tunnel import host_key

StepState = Literal["done", "now", "wait"]


@dataclass(frozen=True, slots=True)
class Step:
    """One step: ``now`` is the one being waited for; ``checks`` say what to check then."""

    title: str
    state: StepState
    at: datetime | None = None
    detail: str = ""
    checks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Joining:
    """One cluster's steps, and the newest refusal if no step came later."""

    steps: list[Step]
    complete: bool
    refused_at: datetime | None
    refused_reason: str
    token_expires_at: datetime | None  # of the open token, None if there is none
    token_expired: bool


def joining(cluster: Cluster, now: datetime) -> Joining:
    """Return how far the cluster is. Five queries.

    Args:
        cluster: the cluster, with ``current`` loaded.
        now: time of the page, aware.
    """
    token = cluster.join_tokens.order_by("-created_at").first()
    key = cluster.keys.filter(status=ClusterKey.Status.ACTIVE).order_by("-created_at").first()
    session = cluster.sessions.order_by("-connected_at").first()
    current = getattr(cluster, "current", None)
    used_at = token.used_at if token else None
    tunnel_up = bool(current and current.tunnel_up)
    data_at = current.data_as_of if current else None
    done = (
        bool(used_at or key),
        key is not None,
        tunnel_up or data_at is not None,
        data_at is not None,
    )
    details = (
        _token_detail(token, key),
        f"{key.fingerprint}" if key else "",
        f"from {session.remote_address} by {session.transport}" if session else "",
        f"{cluster.kind or 'cluster'}, agent {cluster.agent_version}" if data_at else "",
    )
    times = (
        used_at or (key.created_at if key else None),
        key.created_at if key else None,
        session.connected_at if session else None,
        data_at,
    )
    steps = [
        Step(title, _state(done, index), times[index] if done[index] else None, detail, checks)
        for index, (title, detail, checks) in enumerate(
            zip(_TITLES, details, _checks(), strict=True)
        )
    ]
    refusal = _refusal(cluster, key)
    open_token = token if token and token.used_at is None else None
    return Joining(
        steps=steps,
        complete=all(done),
        refused_at=refusal.at if refusal else None,
        refused_reason=str(refusal.detail.get("reason", "")) if refusal else "",
        token_expires_at=open_token.expires_at if open_token else None,
        token_expired=bool(open_token and open_token.expires_at <= now),
    )


_TITLES = ("Token used", "Key accepted", "Tunnel up", "First data")


def _state(done: tuple[bool, ...], index: int) -> StepState:
    if done[index]:
        return "done"
    return "now" if all(done[:index]) else "wait"


def _token_detail(token: JoinToken | None, key: ClusterKey | None) -> str:
    if token and token.used_at:
        return f"from {token.used_from}"
    return "a key was registered manually" if key else ""


def _checks() -> tuple[tuple[str, ...], ...]:
    """Return, per step, what to check when it does not happen."""
    return (
        (
            f"The machine can reach {settings.PUBLIC_URL}: run "
            f"curl -sS {settings.PUBLIC_URL}/healthz there.",
            "The whole command was copied, and the token has not been used or replaced since.",
            "The agent's own output says why it was refused.",
        ),
        (
            f"The hub key that the agent pins is {host_key.host_key_fingerprint()}.",
            "The agent can write to its data directory: it keeps its key there.",
        ),
        (
            f"The machine can reach {settings.HUB_PUBLIC_ADDRESS} (SSH) or, through a proxy, "
            f"{settings.HUB_PUBLIC_WS_URL} (WebSocket).",
            "The agent is running: python -m agent run keeps the tunnel open.",
            "The hub is running: see /readyz.",
        ),
        (
            "Data arrives one to two minutes after the tunnel: a minute must be complete first.",
            "python -m agent check on the machine shows whether its collectors work.",
            "The worker is running: see /readyz. The Data and gaps tab shows why a pull failed.",
        ),
    )


def _refusal(cluster: Cluster, key: ClusterKey | None) -> AuditEvent | None:
    """Return the newest refused enrolment, if nothing was accepted after it."""
    refused = AuditEvent.objects.filter(cluster_id=cluster.pk, action="agent.enrol", ok=False)
    newest = refused.order_by("-id").first()
    if newest is None or (key is not None and key.created_at > newest.at):
        return None
    return newest
