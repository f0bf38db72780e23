"""The data directory: everything that one installation stores on disk, readable by its owner only.

Layout, below ``OPSCENTER_DATA_DIR`` (mode 0700)::

    secret_key  hub_host_key  admin_password      made once, mode 0600
    opscenter.sqlite3                             Django's database, unless DATABASE_URL is set
    metrics.sqlite3                               the SQLite metric store
    exports/                                      zips that somebody asked for, seven days
    agent/                                        the local agent's key, configuration and spool
    run/                                          unix sockets: redis.sock, gateway.sock
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import stat
import tempfile
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

# sun_path holds 108 bytes on Linux; the longest name below run/ needs about 20 of them.
_LONGEST_SOCKET_DIRECTORY = 85


def ensure_private_directory(path: Path, variable: str) -> Path:
    """Create ``path`` with mode 0700, or check that it is ours and writable.

    Args:
        path: the directory.
        variable: the environment variable to name in an error.

    Raises:
        ImproperlyConfigured: if it cannot be made or written, belongs to somebody else, or is
            shared like /tmp, which must not be closed to its other users.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.stat()
        if found.st_mode & stat.S_ISVTX:
            msg = f"{variable}: {path} is everybody's; name a directory of Ops Center's own in it"
            raise ImproperlyConfigured(msg)
        if found.st_uid == os.getuid() and found.st_mode & 0o077:
            path.chmod(0o700)
    except OSError as exc:
        msg = f"{variable}: the directory {path} cannot be made: {exc.strerror}"
        raise ImproperlyConfigured(msg) from exc
    # The owner of a directory may replace every file in it. Volumes of containers are root's.
    if found.st_uid not in (os.getuid(), 0):
        msg = f"{variable}: the directory {path} belongs to another user ({found.st_uid})"
        raise ImproperlyConfigured(msg)
    if not os.access(path, os.W_OK | os.X_OK):
        msg = f"{variable}: the directory {path} is not writable for user {os.getuid()}"
        raise ImproperlyConfigured(msg)
    return path


def runtime_directory(data_dir: Path) -> Path:
    """Return the directory for unix sockets: ``run/`` below the data directory.

    If that path is too long for a socket name, it is a directory in the system's temporary
    directory, named by user and data directory so that every process finds the same.

    Raises:
        ImproperlyConfigured: if that directory is a link or belongs to another user.
    """
    preferred = data_dir / "run"
    if len(os.fsencode(preferred)) <= _LONGEST_SOCKET_DIRECTORY:
        return ensure_private_directory(preferred, "OPSCENTER_DATA_DIR")
    digest = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:12]
    fallback = Path(tempfile.gettempdir()) / f"opscenter-{os.getuid()}-{digest}"
    _ensure_own_directory(fallback)
    return fallback


def _ensure_own_directory(path: Path) -> None:
    """Make a directory where others may already have put something of its name.

    Links are not followed: we would change the target of somebody else's. Once it is ours, the
    sticky bit of the temporary directory protects it.

    Raises:
        ImproperlyConfigured: if it is a link, no directory, or not ours alone.
    """
    try:
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=0o700)
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            found = os.fstat(descriptor)
            if found.st_uid != os.getuid():
                raise PermissionError(errno.EACCES, "it belongs to another user")
            os.fchmod(descriptor, 0o700)
        finally:
            os.close(descriptor)
    except OSError as exc:
        msg = f"{path} cannot be used ({exc.strerror}); set OPSCENTER_DATA_DIR to a shorter path"
        raise ImproperlyConfigured(msg) from exc


def read_or_create_secret(path: Path) -> str:
    """Return the secret in ``path``; make a random one (mode 0600) on the first call.

    Safe when several processes start at once: the file is linked into place complete, and the
    first one wins.

    Raises:
        ImproperlyConfigured: if the file cannot be read or written, or is empty.
    """
    try:
        if not path.exists():
            partial = path.with_name(f".{path.name}.{os.getpid()}")
            descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(secrets.token_urlsafe(48))
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(partial, path)
            except FileExistsError:
                pass  # another process was first: its secret is used
            finally:
                partial.unlink()
        value = path.read_text(encoding="utf-8").strip()
    except OSError as exc:
        full = exc.errno == errno.ENOSPC
        why = "the disk is full: free some space" if full else exc.strerror
        msg = f"OPSCENTER_DATA_DIR: {path} cannot be used: {why}"
        raise ImproperlyConfigured(msg) from exc
    if not value:
        msg = f"OPSCENTER_DATA_DIR: {path} is empty; delete it to have a new secret made"
        raise ImproperlyConfigured(msg)
    return value
