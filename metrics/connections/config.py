"""Which source a cluster's metrics come from: what can be set, and how it is written down.

Callers have checked the right (:mod:`clusters.access`) before. Secrets come in and are sealed;
nothing gives them out but :func:`secrets_of`, for the client that talks to the source.
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
_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)*")


@dataclass(frozen=True, slots=True)
class SourceConfig:
    """A source as it is to be asked: checked, with its secrets in clear."""

    kind: str
    service: str
    scheme: str = "http"
    settings: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def role(self) -> Role:
        """Return which part it plays."""
        return KINDS[self.kind].role

    def tls(self) -> TlsIdentity | None:
        """Return how to speak TLS with it; None for plain HTTP inside the tunnel."""
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
    """Check what somebody entered.

    Args:
        kind: a key of :data:`KINDS`.
        service: of the tunnel; "" for the kind's own.
        scheme: http or https.
        settings: by name; what is missing or "" takes its default.
        secrets: by name; one that is missing or "" keeps what ``before`` has, while service and
            kind stay the same: a secret never follows to another server.
        before: what is stored now, if anything.

    Raises:
        InvalidInputError: naming the field that cannot be used.
        SealBrokenError: a secret is to be kept and cannot be opened.
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
    """Return what is stored of a cluster's source; None for the agent's own collectors."""
    return MetricSource.objects.filter(cluster=cluster, role=role).first()


def source_name(row: MetricSource | None) -> str:
    """Return which source this is, by kind and service; "" for the agent's own collectors."""
    return "" if row is None else f"{row.kind} {row.service}"


def config_of(row: MetricSource) -> SourceConfig:
    """Return a stored source, its secrets opened.

    Raises:
        SealBrokenError: a secret cannot be opened.
    """
    return SourceConfig(row.kind, row.service, row.scheme, row.settings, secrets_of(row))


def secrets_of(row: MetricSource) -> dict[str, str]:
    """Return the secrets in clear, by name.

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
        cluster: which cluster.
        config: from :func:`read_config`.
        actor: who does it.
        probe: what a test found just now, if there was one.
        now: when; the clock if None.
    """
    now = now or datetime.now(UTC)
    name = audit.actor_name(actor)[:150]
    with transaction.atomic():
        cluster_services.allow_service(cluster, config.service, actor=actor)
        before = MetricSource.objects.select_for_update().filter(cluster=cluster, role=config.role)
        old = before.first()
        row = old or MetricSource(cluster=cluster, role=config.role, added_by=name, added_at=now)
        before_name = source_name(old)
        was = None if old is None else shown(old)
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
            detail={"before": was, "after": shown(row)},
        )  # fmt: skip
    realtime.publish_on_commit(cluster.pk, "config")
    return row


def remove_source(cluster: Cluster, role: Role = "main", *, actor: Actor) -> None:
    """Go back to the agent's own collectors, or without etcd's figures; what is stored stays.

    Raises:
        NotFoundError: if there is no such source.
    """
    with transaction.atomic():
        row = MetricSource.objects.select_for_update().filter(cluster=cluster, role=role).first()
        if row is None:
            raise NotFoundError("The cluster has no such source.")
        was = shown(row)
        row.delete()
        if role == "main":
            _hand_over(cluster, datetime.now(UTC))
        still_used = MetricSource.objects.filter(cluster=cluster, service=row.service)
        if not still_used.exists():
            cluster_services.refuse_service(cluster, row.service, actor=actor)
        audit.record("source.remove", actor=actor, cluster_id=cluster.pk, detail={"before": was})
    realtime.publish_on_commit(cluster.pk, "config")


def shown(row: MetricSource) -> dict[str, Any]:
    """Return what may be shown of a source, for the log: of secrets only that they are set."""
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

    Two sources may name nodes differently. A minute that both had stored would count a node
    twice, so what the one before has stored stays as it is, also what a pull that goes on just
    now will have stored.
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
    """Return a value without blanks around it; PEM texts may have several lines."""
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
