"""The agent's data directory: everything in it has mode 0600 and is written atomically.

::

agent.key         its private key; made here, never leaves the machine
enrolment.json    which cluster it is and where the hub is, as the centre answered
agent.lock        held while an agent runs; holds its process id
ready             exists while a tunnel is up
spool.sqlite3     the samples (agent.spool.spool)
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncssh
import orjson

from agent.tunnel.reach import Reach

KEY_FILE, ENROLMENT_FILE, LOCK_FILE = "agent.key", "enrolment.json", "agent.lock"
SPOOL_FILE = "spool.sqlite3"


class StateError(Exception):
    """The data directory cannot be used; the message is one line that names the file."""


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What the centre answered when the agent joined."""

    cluster_id: str  # UUID; the SSH user name
    cluster_name: str
    addresses: tuple[str, ...]  # host:port, in the order to dial
    ws_urls: tuple[str, ...]
    host_keys: tuple[str, ...]  # "ssh-ed25519 AAAA...": the hub's, pinned
    keepalive_seconds: int
    url: str  # of the centre
    token_digest: str  # of the token that was used, so that a new one is noticed
    centre: Reach | None = None  # how the centre was reached; None: not known, all may be dialled


def prepare_data_dir(path: Path) -> None:
    """Create the data directory with mode 0700, or check that it is ours and can be written.

    Raises:
        StateError: if it cannot, or belongs to somebody else, who could replace the key in it.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.stat()
        if found.st_mode & stat.S_ISVTX:  # closing /tmp to its other users would break them
            raise StateError(f"{path} is everybody's; name a directory of the agent's own in it")
        if found.st_uid == os.getuid() and found.st_mode & 0o077:
            path.chmod(0o700)
    except OSError as exc:
        raise StateError(f"the data directory {path} cannot be used: {exc.strerror}") from exc
    if found.st_uid not in (os.getuid(), 0):  # volumes of containers are root's
        raise StateError(f"the data directory {path} belongs to another user ({found.st_uid})")
    if not os.access(path, os.W_OK | os.X_OK):
        raise StateError(f"the data directory {path} is not writable for user {os.getuid()}")


@contextlib.contextmanager
def lock_data_dir(path: Path) -> Iterator[None]:
    """Lock the data directory against a second agent until the block ends or the process dies.

    Raises:
        StateError: if another agent holds it.
    """
    lock = path / LOCK_FILE
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise StateError(f"{lock} cannot be opened: {exc.strerror}") from exc
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            holder = os.read(descriptor, 20).decode("ascii", "replace").strip() or "unknown"
            raise StateError(f"another agent (process {holder}) already uses {path}") from exc
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode("ascii"), 0)
        yield
    finally:
        os.close(descriptor)


def write_private(path: Path, content: bytes) -> None:
    """Replace a file with ``content``, mode 0600; a crash leaves the old or the new one whole.

    Raises:
        StateError: if it cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with contextlib.suppress(FileNotFoundError):
            partial.unlink()
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as exc:
        raise StateError(f"{path} cannot be written: {exc.strerror}") from exc


def ensure_key(data_dir: Path) -> asyncssh.SSHKey:
    """Return the agent's private key; make an ed25519 key on the first call.

    Raises:
        StateError: if the file cannot be read or written or holds no unencrypted ed25519 key.
    """
    path = data_dir / KEY_FILE
    if not path.exists():
        key = asyncssh.generate_private_key("ssh-ed25519", comment="opscenter-agent")
        write_private(path, key.export_private_key("openssh"))
    try:
        key = asyncssh.read_private_key(str(path))
    except OSError as exc:
        raise StateError(f"{path} cannot be read: {exc.strerror}") from exc
    except asyncssh.KeyImportError as exc:
        raise StateError(f"{path} holds no unencrypted private key: {exc}") from exc
    if key.get_algorithm() != "ssh-ed25519":
        raise StateError(f"{path} holds a {key.get_algorithm()} key, not ed25519")
    return key


def public_line(key: asyncssh.SSHKey) -> str:
    """Return the public key as it is registered: ``ssh-ed25519 AAAA...`` without a comment."""
    return " ".join(key.export_public_key("openssh").decode("ascii").split()[:2])


def save_enrolment(data_dir: Path, enrolment: Enrolment) -> None:
    """Store what the centre answered.

    Raises:
        StateError: if it cannot be written.
    """
    content = orjson.dumps(asdict(enrolment), option=orjson.OPT_INDENT_2)
    write_private(data_dir / ENROLMENT_FILE, content)


def read_enrolment(data_dir: Path) -> Enrolment | None:
    """Return what the centre answered; None if this agent never joined.

    Raises:
        StateError: if the file is damaged.
    """
    path = data_dir / ENROLMENT_FILE
    try:
        content = orjson.loads(path.read_bytes())
        return _enrolment(content)
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise StateError(f"{path} cannot be read: {exc.strerror}") from exc
    except (KeyError, TypeError, ValueError) as exc:
        raise StateError(f"{path} is damaged ({exc}); remove it and join again") from exc


def _enrolment(content: Any) -> Enrolment:
    return Enrolment(
        cluster_id=str(UUID(content["cluster_id"])),
        cluster_name=str(content["cluster_name"]),
        addresses=tuple(str(item) for item in content["addresses"]),
        ws_urls=tuple(str(item) for item in content["ws_urls"]),
        host_keys=tuple(str(item) for item in content["host_keys"]),
        keepalive_seconds=int(content["keepalive_seconds"]),
        url=str(content["url"]),
        token_digest=str(content["token_digest"]),
        centre=Reach(content["centre"]) if content.get("centre") else None,
    )


def set_ready(path: Path, text: str | None) -> None:
    """Write the readiness file, or remove it when ``text`` is None.

    Raises:
        StateError: if it cannot be written or removed.
    """
    if text is not None:
        write_private(path, text.encode())
        return
    try:
        path.unlink(missing_ok=True)
    except OSError as exc:
        raise StateError(f"{path} cannot be removed: {exc.strerror}") from exc
