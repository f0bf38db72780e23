"""The agent's configuration: the environment, then a YAML file, then defaults.

Every variable is ``OPSCENTER_AGENT_`` and a name; the YAML file (``OPSCENTER_AGENT_CONFIG``) holds
the same names in lower case without the prefix. A variable wins over the file. A secret may be
given by ``..._FILE``, the path of a file that holds it. A value that cannot be read is refused at
the start with one line that names the variable or the key.
"""

from __future__ import annotations

import hashlib
import os
import re
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from agent.tunnel.targets import AllowList, TargetError, parse_services

PREFIX = "OPSCENTER_AGENT_"
_FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{43}")
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_SECRETS = frozenset({"token"})


class ConfigError(Exception):
    """A value that cannot be used; the message is one line that names its variable or key."""


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """Where the local API listens: a loopback host and port, or a unix socket's path."""

    host: str = "127.0.0.1"
    port: int = 0  # 0: any free port
    path: str = ""  # not "": a unix socket; host and port are unused


@dataclass(frozen=True, slots=True)
class Config:
    """All settings of an agent; ``docs/agent.md`` says what each value does."""

    data_dir: Path
    url: str = ""
    token: str = field(default="", repr=False)
    hub_keys: tuple[str, ...] = ()  # fingerprints, SHA256:...
    collector: str = "auto"
    listen: ListenAddress = ListenAddress()
    sample_seconds: int = 15
    spool_max_mb: int = 512
    spool_max_days: int = 7
    node_name: str = ""
    services: AllowList = field(default_factory=AllowList)
    log_level: str = "INFO"
    transport: str = "auto"
    first_connect_seconds: float = 5.0
    exit_after_seconds: float = 600.0
    ready_file: Path | None = None  # None: "ready" in the data directory

    @property
    def ready_path(self) -> Path:
        """Return the file that exists while a tunnel is up."""
        return self.ready_file or self.data_dir / "ready"

    @property
    def instance(self) -> str:
        """Return 16 hex digits that distinguish two copies of one identity.

        They stay the same over restarts: the machine (its id; the node's name in Kubernetes,
        where containers have none) and the data directory decide.
        """
        machine = self.node_name or _machine_id() or socket.gethostname()
        return hashlib.sha256(f"{machine}\0{self.data_dir}".encode()).hexdigest()[:16]


def load_config(
    environ: Mapping[str, str] | None = None, overrides: Mapping[str, str] | None = None
) -> Config:
    """Read the configuration.

    Args:
        environ: environment variables; None for the process's own.
        overrides: values from the command line, by lower-case name; they win over both.

    Raises:
        ConfigError: for an unknown key, a value that cannot be used, or an unreadable file.
    """
    environ = os.environ if environ is None else environ
    values = _file_values(environ.get(f"{PREFIX}CONFIG", "").strip())
    for key in _READERS:
        found = _environment_value(environ, key)
        if found is not None:
            values[key] = found
    for key, value in (overrides or {}).items():
        values[key] = (f"--{key.replace('_', '-')}", value)
    arguments = {
        _FIELDS.get(key, key): _READERS[key](name, value) for key, (name, value) in values.items()
    }
    arguments.setdefault("data_dir", _default_data_dir(environ))
    return Config(**arguments)


def unknown_variables(environ: Mapping[str, str] | None = None) -> list[str]:
    """Return unknown variables with our prefix: most likely misspelt.

    They cause a warning, not an error, because Kubernetes makes variables from the names of
    services (``OPSCENTER_AGENT_SERVICE_HOST``).
    """
    environ = os.environ if environ is None else environ
    known = {PREFIX + key.upper() for key in _READERS} | {f"{PREFIX}CONFIG"}
    known |= {f"{PREFIX}{key.upper()}_FILE" for key in _SECRETS}
    return sorted(name for name in environ if name.startswith(PREFIX) and name not in known)


def _environment_value(environ: Mapping[str, str], key: str) -> tuple[str, Any] | None:
    """Return (variable, value) of one key, from the variable or its ``_FILE``; None if not set."""
    name = PREFIX + key.upper()
    value = environ.get(name, "").strip()
    if value:
        return name, value
    if key not in _SECRETS:
        return None
    path = environ.get(f"{name}_FILE", "").strip()
    if not path:
        return None
    try:
        secret = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"{name}_FILE: {path} cannot be read: {_reason(exc)}") from exc
    if not secret:
        raise ConfigError(f"{name}_FILE: {path} is empty")
    return name, secret


def _file_values(path: str) -> dict[str, tuple[str, Any]]:
    """Return the YAML file's values, each with the name to use in errors; {} without a file."""
    if not path:
        return {}
    variable = f"{PREFIX}CONFIG"
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"{variable}: {path} cannot be read: {_reason(exc)}") from exc
    except yaml.YAMLError as exc:
        text = " ".join(str(exc).split())
        raise ConfigError(f"{variable}: {path} is not YAML: {text}") from exc
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"{variable}: {path} must hold names and values")
    values = {}
    for key, value in content.items():
        if key not in _READERS:
            raise ConfigError(f"{path}: {str(key)[:60]!r} is not a known key")
        if value is not None:
            values[key] = (f"{path}: {key}", value)
    return values


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ConfigError(f"{name}: must be text")
    if not value.isprintable():
        raise ConfigError(f"{name}: must be one line without control characters")
    return value.strip()


def _url(name: str, value: Any) -> str:
    text = _text(name, value).rstrip("/")
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ConfigError(f"{name}: {text!r} is not an http or https address")
    return text


def _fingerprints(name: str, value: Any) -> tuple[str, ...]:
    parts = [part.strip() for part in _text(name, value).split(",") if part.strip()]
    for part in parts:
        if not _FINGERPRINT.fullmatch(part):
            raise ConfigError(f"{name}: {part!r} is not a fingerprint SHA256:...")
    return tuple(parts)


def _path(name: str, value: Any) -> Path:
    return Path(_text(name, value)).expanduser().absolute()


def _listen(name: str, value: Any) -> ListenAddress:
    text = _text(name, value)
    if text.startswith(("/", "unix:")):
        return ListenAddress(path=text.removeprefix("unix:"))
    host, colon, port = text.rpartition(":")
    host = host.strip("[]")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise ConfigError(f"{name}: {text!r} is neither host:port nor the path of a unix socket")
    if host not in _LOOPBACK:
        raise ConfigError(f"{name}: {host!r} is not a loopback address; the API has no sign-in")
    return ListenAddress(host, int(port))


def _number(low: float, high: float) -> Callable[[str, Any], int]:
    """Return a reader of whole numbers in ``low..high``."""

    def read(name: str, value: Any) -> int:
        try:
            if isinstance(value, bool | float):
                raise ValueError(value)
            number = int(value)
        except (TypeError, ValueError) as exc:
            raise ConfigError(f"{name}: {str(value)[:60]!r} is not a whole number") from exc
        if not low <= number <= high:
            raise ConfigError(f"{name}: {number} is outside {low}..{high}")
        return number

    return read


def _sample_seconds(name: str, value: Any) -> int:
    seconds = _number(2, 60)(name, value)
    if 60 % seconds:
        raise ConfigError(f"{name}: {seconds} does not divide a minute; use 5, 10, 15, 20 or 30")
    return seconds


def _choice(*choices: str, upper: bool = False) -> Callable[[str, Any], str]:
    """Return a reader of one word out of ``choices``."""

    def read(name: str, value: Any) -> str:
        text = _text(name, value)
        text = text.upper() if upper else text
        if text not in choices:
            raise ConfigError(f"{name}: {text!r} is not one of {', '.join(choices)}")
        return text

    return read


def _services(name: str, value: Any) -> AllowList:
    try:
        return parse_services(value)
    except TargetError as exc:
        raise ConfigError(f"{name}: {exc}") from exc


_READERS: dict[str, Callable[[str, Any], Any]] = {
    "data_dir": _path,
    "url": _url,
    "token": _text,
    "hub_key": _fingerprints,
    "collector": _choice("auto", "host", "kubelet"),
    "listen": _listen,
    "sample_seconds": _sample_seconds,
    "spool_max_mb": _number(1, 100_000),
    "spool_max_days": _number(1, 400),
    "node_name": _text,
    "services": _services,
    "log_level": _choice("DEBUG", "INFO", "WARNING", "ERROR", upper=True),
    "transport": _choice("auto", "tcp", "ws"),
    "first_connect_seconds": _number(0, 3600),
    "exit_after_seconds": _number(0, 7 * 86400),
    "ready_file": _path,
}
_FIELDS = {"hub_key": "hub_keys"}


def _default_data_dir(environ: Mapping[str, str]) -> Path:
    """Return the default directory of the state: systemd's, or the user's."""
    state = environ.get("STATE_DIRECTORY", "").split(":")[0]
    if state:
        return Path(state)
    base = environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "opscenter-agent"


def _machine_id() -> str:
    try:
        return Path("/etc/machine-id").read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""  # containers have none


def _reason(exc: OSError | UnicodeDecodeError) -> str:
    return exc.strerror or str(exc) if isinstance(exc, OSError) else "it is not text"
