"""Test a source through the tunnel: what it is, what it has, or exactly what is wrong.

A test may need the hub to accept the service first. An agent that already offers it reconnects for
that, which takes some seconds; the test waits.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from django.conf import settings

from clusters import audit, services
from clusters.audit import Actor
from clusters.models import Cluster, TunnelSession
from clusters.tunnel.protocol import SERVICE_PORTS
from metrics.connections.config import SourceConfig
from metrics.connections.connect import adapter, connector
from metrics.sources.base import FieldProbe, Probe, Resolution
from metrics.sources.kinds import KINDS
from opscenter.core.errors import (
    ClusterError,
    ClusterUnreachableError,
    ConsentOffError,
    ServiceUnavailableError,
)
from opscenter.core.text import one_line

WAIT_SECONDS = 15.0  # for an agent that reconnects because its service is allowed now
RETRY_SECONDS = 0.5
MAX_NOTES = 12
_WORDS: Mapping[str, str] = {
    "tunnel_down": "The tunnel is down",
    "gateway_down": "Ops Center's hub cannot be reached",
    "service_down": "The service behind the tunnel does not answer",
    "consent_off": "The agent does not let this service through",
    "credentials_refused": "Wrong credentials",
    "forbidden": "These credentials do not allow reading",
    "not_found": "Nothing at this address",
    "query_refused": "It rejects the queries",
    "server_error": "It has an internal error",
    "redirect": "It redirects elsewhere",
    "not_json": "A different kind of server answers",
    "too_large": "Its answer is too large",
    "cut_off": "Its answer is cut off",
    "database_missing": "There is no such database",
    "too_many_series": "It has too many series",
    "bad_value": "It sends values that are not numbers",
    "duplicate_series": "It names a series twice",
    "unsorted": "Its points are not in order",
    "bad_name": "It sends names that cannot be used",
    "bad_response": "Its answer cannot be used",
    "source_config": "It cannot be queried with these settings",
    "store_error": "Ops Center could not store it",
}
_ADVICE: Mapping[str, str] = {
    "tunnel_down": "Wait until the cluster is connected, then test again.",
    "credentials_refused": "Check the user name, the password or the token.",
    "forbidden": "Grant the user read access to the database, or use another user.",
    "not_found": "Is there a path prefix, e.g. /prometheus? Is it the right kind of server?",
    "server_error": "Its own log says why.",
    "redirect": "Use https if that is where it redirects, or set the path prefix that it adds.",
    "not_json": "Most likely another server or a proxy with a sign-in page answers there.",
    "database_missing": "Check the name: in Gravity it is k8s.",
}


@dataclass(frozen=True, slots=True)
class Report:
    """The result of a test, for the page, the API and the stored source.

    Attributes:
        ok: whether the source can be used.
        code: the failure's code: an error's code, or the answer's problem; "" if ok.
        title: the failure in a few words.
        message: what exactly happened; "" if ok.
        advice: what to do about it; "" if not known.
        missing: the fields of the catalogue that it does not have, with the reason.
    """

    ok: bool
    code: str = ""
    title: str = ""
    message: str = ""
    advice: str = ""
    product: str = ""
    version: str = ""
    oldest: int | None = None
    newest: int | None = None
    clock_skew_ms: int | None = None
    series: Mapping[str, int] = field(default_factory=dict)
    fields: tuple[Mapping[str, Any], ...] = ()
    resolutions: tuple[tuple[int, int | None, str], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def missing(self) -> list[Mapping[str, Any]]:
        """Return the fields that no series has."""
        return [one for one in self.fields if not one["series"]]

    @property
    def present(self) -> list[Mapping[str, Any]]:
        """Return the fields that some series have."""
        return [one for one in self.fields if one["series"]]

    def as_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {**asdict(self), "series": dict(self.series), "fields": [*map(dict, self.fields)],
                "resolutions": [list(one) for one in self.resolutions]}  # fmt: skip


def title_of(code: str) -> str:
    """Return a failure in a few words, from :attr:`ClusterError.name`."""
    return _WORDS.get(code, "It cannot be used")


def report_of(stored: Mapping[str, Any] | None) -> Report | None:
    """Return a report from the result of :meth:`Report.as_json`; None for None."""
    if stored is None:
        return None
    lists = {name: tuple(stored.get(name, ())) for name in ("fields", "notes")}
    found = tuple((step, reach, tier) for step, reach, tier in stored.get("resolutions", ()))
    return Report(**{**stored, **lists, "resolutions": found})


def try_source(
    cluster: Cluster,
    config: SourceConfig,
    *,
    actor: Actor,
    now: float | None = None,
    wait_seconds: float | None = None,
) -> Report:
    """Test what a source is and what it has; one audit line. Takes up to a minute.

    Args:
        cluster: the cluster whose tunnel leads to the source.
        config: the source, from :func:`metrics.connections.config.read_config`.
        actor: the user or program that tests.
        now: current Unix time in seconds; None reads the clock.
        wait_seconds: how long an agent may take to offer a service that was not allowed before, in
            seconds; None for :data:`WAIT_SECONDS`.
    """
    wait_seconds = WAIT_SECONDS if wait_seconds is None else wait_seconds
    newly_allowed = services.allow_service(cluster, config.service, actor=actor)
    give_up_at = time.monotonic() + (wait_seconds if newly_allowed else 0)
    while True:
        report, error = _once(cluster, config, time.time() if now is None else now)
        may_pass = isinstance(error, ClusterUnreachableError | ConsentOffError) or _not_yet(error)
        if error is None or not may_pass or time.monotonic() >= give_up_at:
            break
        time.sleep(RETRY_SECONDS)
    audit.record(
        "source.test", actor=actor, cluster_id=cluster.pk, ok=report.ok,
        detail={"kind": config.kind, "service": config.service, "found": report.code or "good"},
    )  # fmt: skip
    return report


def offered_services(cluster: Cluster) -> list[str]:
    """Return the services that the agent offers through its tunnel now; [] without a tunnel."""
    session = (
        TunnelSession.objects.filter(cluster=cluster, ended_at=None, state__in=("ready", "suspect"))
        .order_by("-connected_at")
        .first()
    )
    return sorted(session.services) if session is not None else []


def agent_setting(service: str) -> str:
    """Return the line for the agent's environment that offers a service."""
    return f"OPSCENTER_AGENT_SERVICES={service}=HOST:{SERVICE_PORTS[service]}"


def openssh_option(service: str) -> str:
    """Return the option of a stock OpenSSH client that offers a service."""
    port = SERVICE_PORTS[service]
    return f"-R {service}:{port}:HOST:{port}"


def _once(cluster: Cluster, config: SourceConfig, now: float) -> tuple[Report, ClusterError | None]:
    try:
        return asyncio.run(_probe(cluster, config, now)), None
    except ClusterError as exc:
        return _failed(exc, config), exc


async def _probe(cluster: Cluster, config: SourceConfig, now: float) -> Report:
    started = time.monotonic()
    seconds = settings.PULL_DEADLINE_SECONDS
    try:
        async with asyncio.timeout(seconds), connector(config)(cluster) as client:
            found = await adapter(config).probe(client, now=now)
            clock = client.server_date
    except TimeoutError as exc:
        msg = f"{config.service} of {cluster.name}: no complete answer within {seconds:g} s"
        raise ServiceUnavailableError(msg) from exc
    elapsed = time.monotonic() - started
    skew = None if clock is None else round(1000 * (clock - now - elapsed))
    return _good(found, skew)


def _good(found: Probe, skew_ms: int | None) -> Report:
    return Report(
        ok=True,
        product=one_line(found.product, 60),
        version=one_line(found.version, 60),
        oldest=found.oldest,
        newest=found.newest,
        clock_skew_ms=skew_ms,
        series={str(kind): count for kind, count in found.series.items()},
        fields=tuple(_field(one) for one in found.fields),
        resolutions=tuple(_resolution(one) for one in found.resolutions),
        notes=tuple(one_line(note, 200) for note in found.notes[:MAX_NOTES]),
    )


def _field(one: FieldProbe) -> dict[str, Any]:
    return {"kind": one.kind, "field": one.field, "series": one.series,
            "why": one_line(one.why, 300)}  # fmt: skip


def _resolution(one: Resolution) -> tuple[int, int | None, str]:
    return one.step, one.reach, one.tier


def _failed(error: ClusterError, config: SourceConfig) -> Report:
    code = error.name
    advice = _ADVICE.get(code, "")
    if code == "consent_off":
        advice = f"Its owner has to add {config.service} to OPSCENTER_AGENT_SERVICES at the agent."
    elif code == "service_down":
        advice = (
            f"Does {KINDS[config.kind].title} run, and does the agent's list name the right "
            "host and port?"
        )
    return Report(
        ok=False,
        code=code,
        title=title_of(code),
        message=one_line(str(error), 500),
        advice=advice,
    )


def _not_yet(error: ClusterError | None) -> bool:
    """Return whether the hub does not yet know that the service is allowed."""
    return isinstance(error, ServiceUnavailableError) and "is not allowed for" in str(error)
