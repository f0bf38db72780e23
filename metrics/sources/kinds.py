"""The only list of the kinds of sources that can be configured.

A new kind is an entry of :data:`KINDS`: the API, the form, its validation, the test and the pulls
use it. A setting or secret that no other kind has gets an entry in :data:`LABELS`. The agent's own
collectors are not a kind: there is nothing to configure.
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
    """The limits of one fetch of an adapter.

    Attributes:
        budget_seconds: time in seconds after which it requests no further piece.
        max_bytes: the largest decoded answer that the client accepts, in bytes.
    """

    budget_seconds: float
    max_bytes: int


Adapter = HttpSource | EtcdSource
MakeAdapter = Callable[[Mapping[str, str], Limits], Adapter]
"""Makes the adapter of checked settings; ValueError where they cannot be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of source that can be configured.

    Attributes:
        name: the kind's name, as stored.
        title: the kind's name for display.
        role: whether it is a cluster's main source or adds etcd's values.
        service: default name of the tunnel's service.
        settings: the settings, each with its default ("" = optional, None = required).
        secrets: the settings that can be written but never read.
        adapter: creates the adapter.
        auth_scheme: the scheme of a token in the ``Authorization`` header.
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
    del settings  # the client handles credentials and the path prefix
    return PrometheusSource(budget_seconds=limits.budget_seconds, max_bytes=limits.max_bytes)


def _influxdb(settings: Mapping[str, str], limits: Limits) -> Adapter:
    return InfluxSource(settings.get("database", "k8s"), budget_seconds=limits.budget_seconds)


def _influxdb2(settings: Mapping[str, str], limits: Limits) -> Adapter:
    org, bucket = settings.get("org", ""), settings.get("bucket", "")
    return Influx2Source(org, bucket, budget_seconds=limits.budget_seconds)


def _etcd(settings: Mapping[str, str], limits: Limits) -> Adapter:
    del settings, limits  # the pull handles the node
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
    "database": ("Database", "The one that Heapster writes to; in Gravity it is k8s."),
    "org": ("Organisation", "Its name or id."),
    "bucket": ("Bucket", "The one that Telegraf writes to."),
    "username": ("User name", ""),
    "path_prefix": ("Path prefix", "If the server does not answer at /, e.g. /prometheus."),
    "node": ("Node", "Name of the node that this etcd runs on; else one of the control plane."),
    "ca": ("CA certificates (PEM)", "The CAs to trust; this machine's own list if empty."),
    "server_name": ("Name in its certificate", "Not checked if empty and a CA is given."),
    "certificate": ("Our certificate (PEM)", "If it asks for one."),
    "password": ("Password", ""),
    "token": ("Token", ""),
    "client_key": ("Key of our certificate (PEM)", ""),
}
"""The label of every setting and secret, and a hint; "" for none."""
