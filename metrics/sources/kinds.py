"""The kinds of sources: their names, roles, services, settings and secrets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Role = Literal["main", "etcd"]
_TLS = ("ca", "server_name", "certificate")


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of source that can be set.

    Attributes:
        name: as stored.
        title: for people.
        role: which part it plays.
        service: of the tunnel, by default.
        settings: what can be set, each with its default ("" = optional, None = required).
        secrets: what can be set and never read again.
    """

    name: str
    title: str
    role: Role
    service: str
    settings: Mapping[str, str | None]
    secrets: tuple[str, ...]

    @property
    def every_setting(self) -> tuple[str, ...]:
        """Return the names of all settings, those of TLS included."""
        return (*self.settings, *_TLS)

    @property
    def every_secret(self) -> tuple[str, ...]:
        """Return the names of all secrets, that of TLS included."""
        return (*self.secrets, "client_key")


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            "prometheus",
            "Prometheus or VictoriaMetrics",
            "main",
            "prometheus",
            {"path_prefix": "", "username": ""},
            ("password", "token"),
        ),
        Kind(
            "influxdb",
            "InfluxDB 1.x (Heapster, Telegraf)",
            "main",
            "influxdb",
            {"database": "k8s", "path_prefix": "", "username": ""},
            ("password",),
        ),
        Kind(
            "influxdb2",
            "InfluxDB 2.x (Telegraf)",
            "main",
            "influxdb",
            {"org": None, "bucket": None, "path_prefix": ""},
            ("token",),
        ),
        Kind("etcd", "etcd's own metrics", "etcd", "etcd", {"node": "", "path_prefix": ""}, ()),
    )
}
