"""The hub's identity: one ed25519 host key, made once, pinned by every agent.

Replacing the file locks every agent out until it is told the new fingerprint, so nothing here
ever overwrites an existing key.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

import asyncssh
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

_ALGORITHM = "ssh-ed25519"


def ensure_host_key(path: Path) -> asyncssh.SSHKey:
    """Return the host key stored in ``path``; make one (mode 0600) on the first call.

    Safe when several processes start at once: the file is linked into place complete, and the
    first one wins.

    Raises:
        ImproperlyConfigured: if the file cannot be read or written, holds no private key, or
            a key of another kind than ed25519.
    """
    try:
        if not path.exists():
            _write_new_key(path)
        key = asyncssh.read_private_key(str(path))
    except OSError as exc:
        msg = f"OPSCENTER_HUB_HOST_KEY_FILE: {path} cannot be used: {exc.strerror or exc}"
        raise ImproperlyConfigured(msg) from exc
    except asyncssh.KeyImportError as exc:
        msg = f"OPSCENTER_HUB_HOST_KEY_FILE: {path} holds no unencrypted private key: {exc}"
        raise ImproperlyConfigured(msg) from exc
    if key.get_algorithm() != _ALGORITHM:
        msg = f"OPSCENTER_HUB_HOST_KEY_FILE: {path} holds a {key.get_algorithm()} key, not ed25519"
        raise ImproperlyConfigured(msg)
    return key


def host_key_line() -> str:
    """Return the public key as agents pin it: ``ssh-ed25519 AAAA...`` without a comment.

    Makes the key if there is none yet, so that the web process can show it before the hub runs.

    Raises:
        ImproperlyConfigured: as :func:`ensure_host_key`.
    """
    return _public_line(settings.HUB_HOST_KEY_PATH)


def host_key_fingerprint() -> str:
    """Return the fingerprint that join commands carry: ``SHA256:`` and 43 base64 characters.

    Raises:
        ImproperlyConfigured: as :func:`ensure_host_key`.
    """
    return asyncssh.import_public_key(host_key_line()).get_fingerprint()


@lru_cache(maxsize=8)
def _public_line(path: Path) -> str:
    """Return the public line of the key in ``path``; read once, as it never changes."""
    blob = ensure_host_key(path).export_public_key("openssh").decode("ascii")
    return " ".join(blob.split()[:2])


def _write_new_key(path: Path) -> None:
    """Make a key and link it into place; an existing file is left alone."""
    blob = asyncssh.generate_private_key(_ALGORITHM).export_private_key("openssh")
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(blob)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(partial, path)
        except FileExistsError:
            return  # another process was first: its key is used
    finally:
        partial.unlink()
