"""Typed settings from the environment, loud on a bad value.

Every reader takes the variable's name and its default. A secret may also be given as
``NAME_FILE``, the path of a file that holds it (Docker and Kubernetes secrets). A value that
cannot be read raises :class:`~django.core.exceptions.ImproperlyConfigured` with the variable's
name, so that the start fails with one clear line.
"""

from __future__ import annotations

import os
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off", ""})


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


def env_list(name: str, default: tuple[str, ...] = ()) -> list[str]:
    """Return a comma-separated variable as its non-empty parts."""
    raw = os.environ.get(name)
    if raw is None:
        return list(default)
    return [part.strip() for part in raw.split(",") if part.strip()]


def env_secret(name: str) -> str | None:
    """Return a secret from ``NAME``, or from the file that ``NAME_FILE`` names.

    Returns:
        The secret without surrounding white space; None if neither variable is set.

    Raises:
        ImproperlyConfigured: if the file cannot be read or is empty.
    """
    value = os.environ.get(name, "").strip()
    if value:
        return value
    path = os.environ.get(f"{name}_FILE", "").strip()
    if not path:
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
