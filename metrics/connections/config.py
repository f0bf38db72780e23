"""The source of a cluster's metrics: its settings, and how they are stored.

Callers check permission first (:mod:`clusters.access`). Secrets are sealed when they come in; only
:func:`secrets_of` returns them, for the client that talks to the source.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson
from django.db import transaction

from clusters import audit
from clusters import services as cluster_services
from clusters.audit import Actor
from clusters.models import Cluster
from clusters.tunnel.client.tls import TlsIdentity
from clusters.tunnel.protocol import SERVICE_PORTS
from metrics.models import MetricSource, PullSchedule
from metrics.series.windows import MINUTE, STREAM
from metrics.sources.kinds import KINDS, Kind, Role
from metrics.stores import get_store
from opscenter.core import realtime
from opscenter.core.encryption import seal, unseal
from opscenter.core.errors import InvalidInputError, NotFoundError

LONGEST = {"ca": 8000, "certificate": 8000, "client_key": 4000}  # PEM texts, in characters
LONGEST_TEXT = 300
# What a part of a path may hold, such as accountID:projectID; no escapes, so nothing is ambiguous.
_PREFIX = re.compile(r"(/[A-Za-z0-9._~:@!$&'()*+,;=-]+)*")


@dataclass(frozen=True, slots=True)
class SourceConfig:
    """The checked configuration of a source, with its secrets in the clear."""

    kind: str
    service: str
    scheme: str = "http"
    settings: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def role(self) -> Role:
        """Return the source's role."""
        return KINDS[self.kind].role

    def tls(self) -> TlsIdentity | None:
        """Return the TLS settings; None for plain HTTP inside the tunnel."""
        if self.scheme != "https":
            return None
        get = self.settings.get
        return TlsIdentity(
            ca=get("ca", ""),
            server_name=get("server_name", ""),
            certificate=get("certificate", ""),
            key=self.secrets.get("client_key", ""),
        )


def read_config(
    kind: str,
    *,
    service: str = "",
    scheme: str = "http",
    settings: Mapping[str, Any] | None = None,
    secrets: Mapping[str, Any] | None = None,
    before: MetricSource | None = None,
) -> SourceConfig:
    """Check the input of a form or request.

    Args:
        kind: the source's kind, a key of :data:`KINDS`.
        service: the tunnel's service; "" for the kind's default.
        scheme: "http" or "https".
        settings: settings by name; missing or "" ones get their default.
        secrets: secrets by name; missing or "" ones are taken from ``before`` while service and
            kind stay the same: a secret is never sent to another server.
        before: the stored source; None if there is none.

    Raises:
        InvalidInputError: naming the field that cannot be used.
        SealBrokenError: a stored secret is needed and cannot be opened.
    """
    if kind not in KINDS:
        raise InvalidInputError(f"kind: use one of {', '.join(KINDS)}")
    about = KINDS[kind]
    service = service or about.service
    if service not in SERVICE_PORTS or service == "agent":
        known = ", ".join(name for name in SERVICE_PORTS if name != "agent")
        raise InvalidInputError(f"service: use one of {known}")
    if scheme not in ("http", "https"):
        raise InvalidInputError("scheme: use http or https")
    clean = _read_settings(about, settings or {})
    given = _read_secrets(about, secrets or {})
    if before is not None and (before.kind, before.service) == (kind, service):
        given = {**secrets_of(before), **given}
    config = SourceConfig(kind, service, scheme, clean, given)
    tls = config.tls()
    if tls is not None:
        tls.context()
    return config


def source_row(cluster: Cluster, role: Role = "main") -> MetricSource | None:
    """Return a cluster's stored source; None for the agent's own collectors."""
    return MetricSource.objects.filter(cluster=cluster, role=role).first()


def source_name(row: MetricSource | None) -> str:
    """Return a source's kind and service as text; "" for the agent's own collectors."""
    return "" if row is None else f"{row.kind} {row.service}"


def config_of(row: MetricSource) -> SourceConfig:
    """Return a stored source, its secrets opened.

    Raises:
        SealBrokenError: a secret cannot be opened.
    """
    return SourceConfig(row.kind, row.service, row.scheme, row.settings, secrets_of(row))


def secrets_of(row: MetricSource) -> dict[str, str]:
    """Return the secrets in the clear, by name.

    Raises:
        SealBrokenError: they cannot be opened.
    """
    opened = unseal(row.sealed)
    return dict(orjson.loads(opened)) if opened else {}


def save_source(
    cluster: Cluster,
    config: SourceConfig,
    *,
    actor: Actor,
    probe: Mapping[str, Any] | None = None,
    now: datetime | None = None,
) -> MetricSource:
    """Make this the cluster's source from the next pull on, and let the hub accept its service.

    Args:
        cluster: the cluster.
        config: the source, from :func:`read_config`.
        actor: the user or program that makes the change.
        probe: the report of a test just now; None if there was none.
        now: current time; None reads the clock.
    """
    now = now or datetime.now(UTC)
    name = audit.actor_name(actor)[:150]
    with transaction.atomic():
        cluster_services.allow_service(cluster, config.service, actor=actor)
        before = MetricSource.objects.select_for_update().filter(cluster=cluster, role=config.role)
        old = before.first()
        row = old or MetricSource(cluster=cluster, role=config.role, added_by=name, added_at=now)
        before_name = source_name(old)
        former = None if old is None else shown(old)
        row.kind, row.service, row.scheme = config.kind, config.service, config.scheme
        row.settings = dict(config.settings)
        row.sealed = seal(orjson.dumps(dict(config.secrets)).decode()) if config.secrets else ""
        row.secret_names = sorted(config.secrets)
        row.changed_by, row.changed_at = name, now
        moved = before_name != source_name(row)
        if moved:
            row.state, row.error, row.error_at = {}, "", None
        if probe is not None:
            row.probe, row.probed_at = dict(probe), now
        elif moved:
            row.probe, row.probed_at = None, None
        row.save()
        if moved and config.role == "main":
            _hand_over(cluster, now)
        audit.record(
            "source.set", actor=actor, cluster_id=cluster.pk, now=now,
            detail={"before": former, "after": shown(row)},
        )  # fmt: skip
    realtime.publish_on_commit(cluster.pk, "config")
    return row


def remove_source(cluster: Cluster, role: Role = "main", *, actor: Actor) -> None:
    """Go back to the agent's own collectors, or to no etcd values; stored data stays.

    Raises:
        NotFoundError: if there is no such source.
    """
    with transaction.atomic():
        row = MetricSource.objects.select_for_update().filter(cluster=cluster, role=role).first()
        if row is None:
            raise NotFoundError("The cluster has no such source.")
        former = shown(row)
        row.delete()
        if role == "main":
            _hand_over(cluster, datetime.now(UTC))
        still_used = MetricSource.objects.filter(cluster=cluster, service=row.service)
        if not still_used.exists():
            cluster_services.refuse_service(cluster, row.service, actor=actor)
        audit.record("source.remove", actor=actor, cluster_id=cluster.pk, detail={"before": former})
    realtime.publish_on_commit(cluster.pk, "config")


def shown(row: MetricSource) -> dict[str, Any]:
    """Return a source's configuration for the log, with only the names of its secrets."""
    brief = {name: "(given)" if name in LONGEST else text for name, text in row.settings.items()}
    return {
        "kind": row.kind,
        "service": row.service,
        "scheme": row.scheme,
        "settings": brief,
        "secrets_set": list(row.secret_names),
    }


def _hand_over(cluster: Cluster, now: datetime) -> None:
    """Let the new source answer from now on, or from the end of the newest data.

    Two sources may name nodes differently. A minute stored from both would count a node twice, so
    what the previous source stored stays as it is, including what a running pull may still store.
    """
    head = get_store().position(cluster.pk, STREAM).head or 0
    since = max(head, int(now.timestamp()) // MINUTE * MINUTE + MINUTE)
    PullSchedule.objects.filter(cluster=cluster, stream=STREAM).update(
        source_since=since, failures=0, rechecked={}, recheck_due_at=None, notes=[],
        due_at=now,
    )  # fmt: skip


def _read_settings(about: Kind, settings: Mapping[str, Any]) -> dict[str, str]:
    unknown = set(settings) - set(about.every_setting)
    if unknown:
        raise InvalidInputError(f"settings: {min(unknown)[:60]!r} is not one of this kind")
    clean: dict[str, str] = {}
    for name in about.every_setting:
        value = _text(name, settings.get(name, "")) or about.settings.get(name, "")
        if value is None:
            raise InvalidInputError(f"{name}: this is needed")
        if name == "path_prefix":
            value = value.rstrip("/")
            if not _PREFIX.fullmatch(value):
                raise InvalidInputError("path_prefix: write it as /part or /part/part")
        if value:
            clean[name] = value
    return clean


def _read_secrets(about: Kind, secrets: Mapping[str, Any]) -> dict[str, str]:
    unknown = set(secrets) - set(about.every_secret)
    if unknown:
        raise InvalidInputError(f"secrets: {min(unknown)[:60]!r} is not one of this kind")
    return {name: text for name in about.every_secret if (text := _text(name, secrets.get(name)))}


def _text(name: str, value: Any) -> str:
    """Return a value without surrounding whitespace; PEM texts may have several lines."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InvalidInputError(f"{name}: this must be text")
    text = value.strip()
    if len(text) > LONGEST.get(name, LONGEST_TEXT):
        raise InvalidInputError(f"{name}: at most {LONGEST.get(name, LONGEST_TEXT)} characters")
    printable = text.replace("\n", "").replace("\r", "") if name in LONGEST else text
    if not printable.isprintable():
        raise InvalidInputError(f"{name}: it holds a control character")
    return text
