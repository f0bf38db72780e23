"""The kinds of sources that can be set: the one list of them.

A new kind is an entry of :data:`KINDS`: the API, the form, the check of what is entered, the test
and the pulls follow it. A setting or secret that no kind had before gets an entry of
:data:`LABELS`. The agent's own collectors are no kind: there is nothing to set.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from metrics.sources.base import HttpSource
from metrics.sources.etcd import EtcdSource
from metrics.sources.influxdb1.source import InfluxSource
from metrics.sources.influxdb2.source import Influx2Source
from metrics.sources.prometheus.source import PrometheusSource

Role = Literal["main", "etcd"]
TLS_SETTINGS = ("ca", "server_name", "certificate")
TLS_SECRETS = ("client_key",)


@dataclass(frozen=True, slots=True)
class Limits:
    """What bounds one fetch of an adapter.

    Attributes:
        budget_seconds: after which it asks for no further piece.
        max_bytes: what the client accepts as one decoded answer.
    """

    budget_seconds: float
    max_bytes: int


Adapter = HttpSource | EtcdSource
MakeAdapter = Callable[[Mapping[str, str], Limits], Adapter]
"""Makes the adapter of checked settings; ValueError where they cannot be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of source that can be set.

    Attributes:
        name: as stored.
        title: for people.
        role: which part it plays.
        service: of the tunnel, by default.
        settings: what can be set, each with its default ("" = optional, None = required).
        secrets: what can be set and never read again.
        adapter: makes what asks it.
        auth_scheme: how a token is announced in the ``Authorization`` header.
    """

    name: str
    title: str
    role: Role = "main"
    service: str
    settings: Mapping[str, str | None]
    secrets: tuple[str, ...] = ()
    adapter: MakeAdapter
    auth_scheme: str = "Bearer"

    @property
    def every_setting(self) -> tuple[str, ...]:
        """Return the names of all settings, those of TLS included."""
        return (*self.settings, *TLS_SETTINGS)

    @property
    def every_secret(self) -> tuple[str, ...]:
        """Return the names of all secrets, that of TLS included."""
        return (*self.secrets, *TLS_SECRETS)


def _prometheus(settings: Mapping[str, str], limits: Limits) -> Adapter:
    del settings  # credentials and path prefix are the client's affair
    return PrometheusSource(budget_seconds=limits.budget_seconds, max_bytes=limits.max_bytes)


def _influxdb(settings: Mapping[str, str], limits: Limits) -> Adapter:
    return InfluxSource(settings.get("database", "k8s"), budget_seconds=limits.budget_seconds)


def _influxdb2(settings: Mapping[str, str], limits: Limits) -> Adapter:
    org, bucket = settings.get("org", ""), settings.get("bucket", "")
    return Influx2Source(org, bucket, budget_seconds=limits.budget_seconds)


def _etcd(settings: Mapping[str, str], limits: Limits) -> Adapter:
    del settings, limits  # its node is the affair of the pull
    return EtcdSource()


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            name="prometheus",
            title="Prometheus or VictoriaMetrics",
            service="prometheus",
            settings={"path_prefix": "", "username": ""},
            secrets=("password", "token"),
            adapter=_prometheus,
        ),
        Kind(
            name="influxdb",
            title="InfluxDB 1.x (Heapster, Telegraf)",
            service="influxdb",
            settings={"database": "k8s", "path_prefix": "", "username": ""},
            secrets=("password",),
            adapter=_influxdb,
        ),
        Kind(
            name="influxdb2",
            title="InfluxDB 2.x (Telegraf)",
            service="influxdb",
            settings={"org": None, "bucket": None, "path_prefix": ""},
            secrets=("token",),
            adapter=_influxdb2,
            auth_scheme="Token",
        ),
        Kind(
            name="etcd",
            title="etcd's own metrics",
            role="etcd",
            service="etcd",
            settings={"node": "", "path_prefix": ""},
            adapter=_etcd,
        ),
    )
}

LABELS: Mapping[str, tuple[str, str]] = {
    "database": ("Database", "That Heapster writes to; Gravity's own is k8s."),
    "org": ("Organisation", "Its name or id."),
    "bucket": ("Bucket", "That Telegraf writes to."),
    "username": ("User name", ""),
    "path_prefix": ("Path prefix", "If the server does not answer at /, e.g. /prometheus."),
    "node": ("Node", "Name of the node that this etcd runs on; else one of the control plane."),
    "ca": ("CA certificates (PEM)", "Whom to believe; this machine's own list if empty."),
    "server_name": ("Name in its certificate", "Not checked if empty and a CA is given."),
    "certificate": ("Our certificate (PEM)", "If it asks for one."),
    "password": ("Password", ""),
    "token": ("Token", ""),
    "client_key": ("Key of our certificate (PEM)", ""),
}
"""What every setting and secret is called, and a hint; "" for none."""
