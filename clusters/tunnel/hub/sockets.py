"""The hub's listening sockets, and the error when one cannot be opened."""

from __future__ import annotations

import asyncio
import errno
import socket
from pathlib import Path


class PortInUseError(Exception):
    """A listener could not be opened; the message names the address and the variable."""


def bind_tcp(host: str, port: int, variable: str) -> socket.socket:
    """Return a listening TCP socket; a port of 0 picks a free one.

    Raises:
        PortInUseError: naming the address, and the variable that moves it.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(512)
    except OSError as exc:
        sock.close()
        why = "is in use" if exc.errno == errno.EADDRINUSE else f"cannot be used: {exc.strerror}"
        msg = f"the port {port} on {host} {why}; set {variable} to another one"
        raise PortInUseError(msg) from exc
    sock.setblocking(False)  # noqa: FBT003 - socket's own signature
    return sock


async def bind_unix(path: Path) -> socket.socket:
    """Return the gateway's unix socket (mode 0660); a dead one in its place is replaced.

    Raises:
        PortInUseError: a hub serves it, or it cannot be opened.
    """
    if await asyncio.to_thread(path.exists):
        try:
            _, writer = await asyncio.open_unix_connection(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            await asyncio.to_thread(path.unlink, missing_ok=True)
        else:
            writer.close()
            msg = f"a hub already serves {path}; set OPSCENTER_GATEWAY_URL to another one"
            raise PortInUseError(msg)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(str(path))
        await asyncio.to_thread(path.chmod, 0o660)
        sock.listen(512)
    except OSError as exc:
        sock.close()
        msg = f"OPSCENTER_GATEWAY_URL: the socket {path} cannot be opened: {exc.strerror}"
        raise PortInUseError(msg) from exc
    sock.setblocking(False)  # noqa: FBT003 - socket's own signature
    return sock
