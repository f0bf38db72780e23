"""Typed settings from the environment; a bad value is an error.

Every reader takes the variable's name and its default. A secret may also be given as
``NAME_FILE``, the path of a file that holds it (Docker and Kubernetes secrets). A value that
cannot be read raises :class:`~django.core.exceptions.ImproperlyConfigured` with the variable's
name, so that the start fails with one clear line.
"""

from __future__ import annotations

import ipaddress
import os
import re
from pathlib import Path
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off", ""})
_KEY_LENGTH, _KEY_CHARACTERS = 20, 8
# What an address may hold: no blanks, no control characters, only ASCII.
_ADDRESS = re.compile(r"[!-~]+")
# A host name or an address of either family, with Django's leading dot for all below a domain.
_HOST = re.compile(r"\*|\.?[A-Za-z0-9_.-]+|\[?[0-9A-Fa-f:.]+\]?")


def env_str(name: str, default: str = "") -> str:
    """Return the variable as text, stripped; ``default`` when it is not set."""
    return os.environ.get(name, default).strip()


def env_bool(name: str, *, default: bool) -> bool:
    """Return the variable as a boolean: 1/true/yes/on or 0/false/no/off.

    Raises:
        ImproperlyConfigured: for anything else.
    """
    raw = os.environ.get(name)
    if raw is None:
        return default
    value = raw.strip().lower()
    if value in _TRUE:
        return True
    if value in _FALSE:
        return False
    msg = f"{name}={raw!r} is not a boolean; use 1 or 0"
    raise ImproperlyConfigured(msg)


def env_int(name: str, default: int, *, low: int, high: int) -> int:
    """Return the variable as a whole number in ``low..high``.

    Raises:
        ImproperlyConfigured: if it is no whole number or outside the bounds.
    """
    raw = os.environ.get(name)
    if raw is None or not raw.strip():
        return default
    try:
        value = int(raw)
    except ValueError as exc:
        msg = f"{name}={raw!r} is not a whole number"
        raise ImproperlyConfigured(msg) from exc
    if not low <= value <= high:
        msg = f"{name}={value} is outside {low}..{high}"
        raise ImproperlyConfigured(msg)
    return value


def env_choice(name: str, default: str, choices: tuple[str, ...]) -> str:
    """Return the variable if it is one of ``choices``.

    Raises:
        ImproperlyConfigured: otherwise, naming the choices.
    """
    value = env_str(name, default)
    if value not in choices:
        msg = f"{name}={value!r} is not one of {', '.join(choices)}"
        raise ImproperlyConfigured(msg)
    return value


def env_match(name: str, default: str, pattern: str, wanted: str) -> str:
    """Return the variable if all of it matches ``pattern``.

    Raises:
        ImproperlyConfigured: otherwise; ``wanted`` says in words what it should be.
    """
    value = env_str(name, default)
    if not re.fullmatch(pattern, value):
        msg = f"{name}={value!r} is not {wanted}"
        raise ImproperlyConfigured(msg)
    return value


def check_heartbeat_limit(limit: int, heartbeat: int) -> None:
    """Check that a process may miss a heartbeat or two before it counts as dead; seconds.

    Raises:
        ImproperlyConfigured: the limit is too short, naming both variables.
    """
    if limit < 3 * heartbeat:
        msg = (
            f"OPSCENTER_HEARTBEAT_LIMIT_SECONDS={limit} is less than three times"
            f" OPSCENTER_HEARTBEAT_SECONDS={heartbeat}"
        )
        raise ImproperlyConfigured(msg)


def env_list(name: str, default: tuple[str, ...] = ()) -> list[str]:
    """Return a comma-separated variable as its non-empty parts."""
    raw = os.environ.get(name)
    if raw is None:
        return list(default)
    return [part.strip() for part in raw.split(",") if part.strip()]


def env_former_keys(name: str) -> list[str]:
    """Return a list of earlier keys, separated by commas, or by lines in the file ``NAME_FILE``.

    That file may be empty: containers mount it before there is an earlier key.

    Raises:
        ImproperlyConfigured: the file cannot be read, or one is too short to have been a key.
    """
    path = "" if env_str(name) else env_str(f"{name}_FILE")
    try:
        keys = Path(path).read_text(encoding="utf-8").split() if path else env_list(name)
    except OSError as exc:
        msg = f"{name}_FILE={path!r} cannot be read: {exc.strerror}"
        raise ImproperlyConfigured(msg) from exc
    if any(len(key) < _KEY_LENGTH for key in keys):
        msg = f"{name}: each earlier key has at least {_KEY_LENGTH} characters"
        raise ImproperlyConfigured(msg)
    return keys


def check_secret_key(name: str, key: str) -> str:
    """Return a secret key that nobody finds by trying.

    Raises:
        ImproperlyConfigured: it is short, or a few characters over and over again.
    """
    if len(key) < _KEY_LENGTH:
        why = f"has at least {_KEY_LENGTH} characters"
    elif len(set(key)) < _KEY_CHARACTERS or key in (key + key)[1:-1]:
        why = "is not the same characters over and over again"
    else:
        return key
    make = "python3 -c 'import secrets; print(secrets.token_urlsafe(48))'"
    raise ImproperlyConfigured(f"{name}: a secret key {why}; make one by {make}")


def env_hosts(name: str) -> list[str]:
    """Return a comma-separated list of host names, as Django's ALLOWED_HOSTS takes them.

    Raises:
        ImproperlyConfigured: naming the one that is invalid.
    """
    hosts = env_list(name)
    for host in hosts:
        if not is_host(host):
            msg = f"{name}: {host!r} is not a host name"
            raise ImproperlyConfigured(msg)
    return hosts


def env_origins(name: str) -> list[str]:
    """Return a comma-separated list of origins: scheme and host, without a path.

    Raises:
        ImproperlyConfigured: naming the one that is none.
    """
    origins = env_list(name)
    for origin in origins:
        if not is_url(origin, ("http", "https")) or urlsplit(origin).path:
            msg = f"{name}: {origin!r} is not like https://host"
            raise ImproperlyConfigured(msg)
    return origins


def env_networks(name: str, default: tuple[str, ...] = ()) -> list[str]:
    """Return a comma-separated list of addresses and networks of either family.

    Raises:
        ImproperlyConfigured: naming the one that is neither.
    """
    networks = env_list(name, default)
    for network in networks:
        try:
            ipaddress.ip_network(network, strict=False)
        except ValueError as exc:
            msg = f"{name}: {network!r} is no address or network"
            raise ImproperlyConfigured(msg) from exc
    return networks


def env_url(name: str, default: str, schemes: tuple[str, ...]) -> str:
    """Return the variable if it is an address ``scheme://host`` with one of ``schemes``.

    Raises:
        ImproperlyConfigured: otherwise, naming the schemes.
    """
    value = env_str(name) or default
    if not is_url(value, schemes):
        wanted = " or ".join(f"{scheme}://host" for scheme in schemes)
        shown = re.sub(r"//[^/@]*@", "//***@", value)  # without a password
        msg = f"{name}={shown!r} is not an address like {wanted}"
        raise ImproperlyConfigured(msg)
    return value


def is_url(value: str, schemes: tuple[str, ...]) -> bool:
    """Return whether ``value`` is an address of one of ``schemes``, with a usable host and port."""
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        return False
    return bool(
        _ADDRESS.fullmatch(value)
        and parts.scheme in schemes
        and parts.hostname
        and _HOST.fullmatch(parts.hostname)
        and port != 0
    )


def is_host(value: str) -> bool:
    """Return whether ``value`` is valid in Django's ALLOWED_HOSTS."""
    return bool(_HOST.fullmatch(value))


def env_host_port(name: str, default: str) -> str:
    """Return the variable if it is ``host:port``; an IPv6 host stands in brackets.

    Raises:
        ImproperlyConfigured: otherwise.
    """
    value = env_str(name) or default
    if is_url(f"tcp://{value}", ("tcp",)) and re.search(r":\d+$", value):
        return value
    msg = f"{name}={value!r} is not like host:port"
    raise ImproperlyConfigured(msg)


def env_gateway_url(name: str, default: str) -> str:
    """Return the variable if it is ``unix:///path`` or ``tcp://host:port``.

    Raises:
        ImproperlyConfigured: otherwise.
    """
    value = env_str(name) or default
    if value.startswith("unix:///") or (is_url(value, ("tcp",)) and urlsplit(value).port):
        return value
    msg = f"{name}={value!r} is neither unix:///path nor tcp://host:port"
    raise ImproperlyConfigured(msg)


def env_secret(name: str, *, needed_by: str = "") -> str | None:
    """Return a secret from ``NAME``, or from the file that ``NAME_FILE`` names.

    Args:
        name: name of the variable.
        needed_by: what needs it, for the error; "" if it may be absent.

    Returns:
        The secret without surrounding white space; None if neither variable is set.

    Raises:
        ImproperlyConfigured: if the file cannot be read or is empty, or it is needed and not set.
    """
    value = os.environ.get(name, "").strip()
    if value:
        return value
    path = os.environ.get(f"{name}_FILE", "").strip()
    if not path:
        if needed_by:
            msg = f"{name} (or {name}_FILE) is not set, and {needed_by} needs it"
            raise ImproperlyConfigured(msg)
        return None
    try:
        value = Path(path).read_text(encoding="utf-8").strip()
    except OSError as exc:
        msg = f"{name}_FILE={path!r} cannot be read: {exc.strerror}"
        raise ImproperlyConfigured(msg) from exc
    if not value:
        msg = f"{name}_FILE={path!r} is empty"
        raise ImproperlyConfigured(msg)
    return value


def is_loopback(host: str) -> bool:
    """Return whether a host name or address stands for this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
