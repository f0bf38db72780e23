"""Addresses of PostgreSQL and Redis from the environment, with what they ask of the connection.

What an address says is either passed on or refused by its name: a key that was dropped in silence
would leave an operator in the belief of having, say, TLS. No message shows the address, which may
hold a password.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured

from opscenter.core.env import env_secret

_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_SESSIONS = ("any", "read-write", "read-only", "primary", "standby", "prefer-standby")
_POSTGRES_KEYS = (
    "sslmode", "sslrootcert", "sslcert", "sslkey", "options", "connect_timeout",
    "target_session_attrs",
)  # fmt: skip
_FILES = ("sslrootcert", "sslcert", "sslkey", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_REDIS_KEYS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs")
_HOST = re.compile(r"(?P<host>\[[0-9A-Fa-f:.%]+\]|[^:\[\]]*)(?::(?P<port>\d{1,5}))?")


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """A Redis: ``url`` as redis-py takes it, ``broker_url`` and ``tls`` as Celery takes them.

    ``tls`` is empty without TLS.
    """

    url: str
    broker_url: str
    tls: dict[str, str] = field(default_factory=dict)


def env_postgres(name: str) -> dict[str, Any] | None:
    """Return the address of a PostgreSQL database as an entry of Django's DATABASES.

    Several hosts are separated by commas, each with its own port. Without a password in the
    address, the secret DATABASE_PASSWORD is used.

    Returns:
        NAME, USER, PASSWORD, HOST and PORT; "" for what is not given; OPTIONS as libpq takes them.
        None if it is not set.

    Raises:
        ImproperlyConfigured: if it is no such address, names no database, or has a key that is not
            passed on.
    """
    url = env_secret(name)
    if url is None:
        return None
    wanted = f"{name} must read postgres://user:password@host:port/name"
    try:
        parts = urlsplit(url)
    except ValueError as exc:
        raise ImproperlyConfigured(wanted) from exc
    if parts.scheme not in ("postgres", "postgresql") or not parts.path.strip("/") or "#" in url:
        raise ImproperlyConfigured(f"{wanted}; # and ? in a password are %23 and %3F")
    user, _, hosts = parts.netloc.rpartition("@")
    user, _, password = user.partition(":")
    found = [_HOST.fullmatch(host) for host in hosts.split(",")]
    if any(match is None or int(match["port"] or 1) not in range(1, 65536) for match in found):
        raise ImproperlyConfigured(f"{wanted}, or host1:port1,host2:port2 for several hosts")
    ports = [match["port"] or "" for match in found if match is not None]
    options = _query(name, parts.query, _POSTGRES_KEYS)
    _check_postgres(name, options)
    return {
        "NAME": unquote(parts.path.lstrip("/")),
        "USER": unquote(user),
        "PASSWORD": unquote(password) or env_secret("DATABASE_PASSWORD") or "",
        "HOST": ",".join(unquote(match["host"].strip("[]")) for match in found if match),
        "PORT": ",".join(ports) if any(ports) else "",
        "OPTIONS": options,
    }


def env_redis(name: str, default: str) -> RedisAddress:
    """Return the address of a Redis: redis://, rediss:// (TLS) or unix:///path.

    Raises:
        ImproperlyConfigured: if it is none of them, or has a key that is not passed on.
    """
    url = env_secret(name) or default
    wanted = f"{name} must read redis://:password@host:port/0, rediss://... or unix:///path"
    try:
        parts = urlsplit(url)
        usable = bool(parts.hostname) and parts.port != 0
    except ValueError as exc:
        raise ImproperlyConfigured(wanted) from exc
    if parts.scheme == "unix":
        _query(name, parts.query, ())
        if not parts.path.strip("/") or parts.fragment:
            raise ImproperlyConfigured(wanted)
        return RedisAddress(url, f"redis+socket{url.removeprefix('unix')}")
    if parts.scheme not in ("redis", "rediss") or not usable or "#" in url:
        raise ImproperlyConfigured(f"{wanted}; # and ? in a password are %23 and %3F")
    if not re.fullmatch(r"(/\d{0,5})?", parts.path):
        raise ImproperlyConfigured(f"{name}: the path is the number of a database, such as /0")
    if parts.scheme == "redis":
        _query(name, parts.query, ())
        return RedisAddress(url, url)
    tls = _query(name, parts.query, _REDIS_KEYS)
    if tls.setdefault("ssl_cert_reqs", "required") != "required":
        raise ImproperlyConfigured(
            f"{name}: ssl_cert_reqs can only be required; name the authority by ssl_ca_certs"
        )
    return RedisAddress(url, url.partition("?")[0], tls)


def _query(name: str, query: str, known: tuple[str, ...]) -> dict[str, str]:
    """Return the keys of an address; files that they name can be read.

    Raises:
        ImproperlyConfigured: naming the key that is not known, empty, or there twice.
    """
    found: dict[str, str] = {}
    for key, value in parse_qsl(query, keep_blank_values=True):
        if key not in known:
            may = f"known are {', '.join(known)}" if known else "there are none"
            raise ImproperlyConfigured(f"{name}: the key {key[:40]!r} is not known; {may}")
        if key in found or not value:
            why = "is given twice" if key in found else "has no value"
            raise ImproperlyConfigured(f"{name}: the key {key} {why}")
        # A certificate that is not there would be no check at all in some modes.
        is_file = key in _FILES and (key, value) != ("sslrootcert", "system")
        if is_file and not os.access(value, os.R_OK):
            raise ImproperlyConfigured(f"{name}: {key}={value!r} cannot be read")
        found[key] = value
    return found


def _check_postgres(name: str, options: dict[str, str]) -> None:
    for key, choices in (("sslmode", _SSL_MODES), ("target_session_attrs", _SESSIONS)):
        if key in options and options[key] not in choices:
            raise ImproperlyConfigured(
                f"{name}: {key}={options[key]!r} is not one of {', '.join(choices)}"
            )
    if not re.fullmatch(r"\d{1,6}", options.get("connect_timeout", "0")):
        raise ImproperlyConfigured(f"{name}: connect_timeout is a number of seconds")
