"""Connections out of a customer's network: TCP, directly or through an HTTP CONNECT proxy.

``https_proxy``, ``http_proxy`` and ``no_proxy`` (either case) are honoured as curl does, networks
such as ``10.0.0.0/8`` too, except that loopback addresses are never sent to a proxy.
"""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import os
import re
import socket
import ssl
import urllib.request
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

from agent.tunnel.reach import Reach, reach_of

CONNECT_SECONDS = 10.0
_HEAD_BYTES = 8192
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class EgressError(Exception):
    """No connection could be made; the message says where it ended and why."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy and our credentials for it."""

    host: str
    port: int
    authorization: str = field(default="", repr=False)  # value of Proxy-Authorization; "" none
    tls: bool = False  # reached by TLS itself

    @property
    def url(self) -> str:
        """Return the proxy's address without credentials."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}"


def proxy_for(host: str, port: int, *, scheme: str = "https") -> Proxy | None:
    """Return the proxy that the environment names for a target; None to go directly.

    Args:
        host: name or address of the target.
        port: port of the target; ``no_proxy`` entries other than networks may name one.
        scheme: scheme whose variable applies: ``https`` (also for plain SSH) or ``http``.

    Raises:
        EgressError: if the variable is no http or https address.
    """
    if _is_loopback(host):
        return None
    proxies = urllib.request.getproxies_environment()
    address = proxies.get(scheme) or proxies.get("all")
    if not address or _goes_directly(host, port, proxies.get("no", "")):
        return None
    try:
        parts = urlsplit(address if "://" in address else f"http://{address}")
        port_or_none = parts.port
    except ValueError as exc:
        raise EgressError(f"{scheme}_proxy holds no address: {exc}") from exc
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise EgressError(f"{scheme}_proxy must be an http:// or https:// address")
    authorization = ""
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = "Basic " + base64.b64encode(pair.encode()).decode("ascii")
    default = 443 if parts.scheme == "https" else 80
    return Proxy(
        parts.hostname, port_or_none or default, authorization, tls=parts.scheme == "https"
    )


async def open_socket(host: str, port: int, *, centre: Reach | None = None) -> socket.socket:
    """Return a connected, non-blocking socket to a target, through a proxy if one is set.

    Args:
        host: name or address of the target.
        port: its port.
        centre: how the centre that named it was reached; None if that is not known.

    Raises:
        EgressError: if the target or the proxy cannot be reached within 10 s, the proxy refuses, or
            the target is nearer than the centre may name.
    """
    proxy = proxy_for(host, port)
    if proxy is not None and proxy.tls:
        msg = f"the proxy {proxy.url} is reached by TLS, which SSH over TCP cannot use; set "
        raise EgressError(msg + "OPSCENTER_AGENT_TRANSPORT=ws")
    where = f"{host}:{port}" if proxy is None else f"the proxy {proxy.url}"
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            if proxy is None:
                return await _connect(host, port, centre)
            sock = await _connect(proxy.host, proxy.port)
            try:
                await _connect_through(sock, proxy, host, port)
            except BaseException:
                sock.close()
                raise
            return sock
    except TimeoutError as exc:
        raise EgressError(f"{where} did not answer within {CONNECT_SECONDS:.0f} s") from exc
    except OSError as exc:
        raise EgressError(f"{where}: {_reason(exc)}") from exc


async def speaks_ssh(host: str, port: int, *, centre: Reach | None = None) -> bool:
    """Return whether an SSH server answers at a target; False on any failure."""
    try:
        sock = await open_socket(host, port, centre=centre)
    except EgressError:
        return False
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            return await asyncio.get_running_loop().sock_recv(sock, 8) == b"SSH-2.0-"
    except OSError:  # also a time-out
        return False
    finally:
        sock.close()


def tls_context() -> ssl.SSLContext:
    """Return the context that verifies servers: by the system's authorities or SSL_CERT_FILE."""
    return ssl.create_default_context()


def split_address(address: str) -> tuple[str, int]:
    """Return (host, port) of ``host:port`` or ``[v6]:port``.

    Raises:
        ValueError: if it is neither.
    """
    host, colon, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    usable = colon and host and host.isprintable() and " " not in host and "/" not in host
    if not usable or not (port.isascii() and port.isdigit()) or not 0 < int(port[:6]) <= 65535:
        raise ValueError(f"{address[:80]!r} is not host:port")
    return host, int(port)


def check_reach(address: str, centre: Reach | None) -> None:
    """Check that the centre may name an address that is about to be dialled.

    Args:
        address: the address, not a name; IPv6 may have a zone.
        centre: how the centre was reached; None if that is not known: then all may be dialled.

    Raises:
        OSError: if it is nearer than the centre.
    """
    reach = reach_of(ipaddress.ip_address(address.partition("%")[0]))
    if centre is not None and not centre.may_name(reach):
        raise OSError(None, f"{address} is not dialled: {NEARER[reach]}, and the centre is not")


NEARER = {
    Reach.INTERNET: "it is on the internet",
    Reach.NETWORK: "it is inside this network",
    Reach.LINK: "it is on this link",
    Reach.MACHINE: "it is this machine",
    Reach.NOWHERE: "it is nobody's address",
}
"""Why an address is nearer than the centre, in words."""


async def _connect(host: str, port: int, centre: Reach | None = None) -> socket.socket:
    """Return a socket to the first of the host's addresses that accepts."""
    loop = asyncio.get_running_loop()
    infos = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    failure: OSError = OSError(f"{host} has no address")
    for family, kind, protocol, _, address in infos:
        try:
            check_reach(str(address[0]), centre)
        except OSError as exc:
            failure = exc
            continue
        sock = socket.socket(family, kind, protocol)
        sock.setblocking(False)  # noqa: FBT003 - positional-only
        try:
            await loop.sock_connect(sock, address)
        except OSError as exc:
            sock.close()
            failure = exc
        except BaseException:
            sock.close()
            raise
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            return sock
    raise failure


async def _connect_through(sock: socket.socket, proxy: Proxy, host: str, port: int) -> None:
    """Send CONNECT and read the answer's head, but no byte after it."""
    loop = asyncio.get_running_loop()
    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
    if proxy.authorization:
        lines.append(f"Proxy-Authorization: {proxy.authorization}")
    await loop.sock_sendall(sock, ("\r\n".join(lines) + "\r\n\r\n").encode())
    head = bytearray()
    while not head.endswith(b"\r\n\r\n"):
        # A byte at a time: the hub's banner may already follow, and it belongs to SSH.
        byte = await loop.sock_recv(sock, 1)
        if not byte or len(head) >= _HEAD_BYTES:
            raise EgressError(f"the proxy {proxy.url} closed or gave no HTTP answer")
        head += byte
    status = head.split(b"\r\n", 1)[0].decode("latin-1")
    words = status.split(" ", 2)
    if not words[0].startswith("HTTP/1.") or len(words) < 2 or words[1] != "200":
        shown = "".join(character for character in status[:120] if character.isprintable())
        raise EgressError(f"the proxy {proxy.url} refused {target}: {shown}")


def _goes_directly(host: str, port: int, no_proxy: str) -> bool:
    """Return whether ``no_proxy`` names a target: by name, domain, address or network."""
    name = host.strip("[]").rstrip(".").lower()
    address = _address(name)
    for entry in re.split(r"[,\s]+", no_proxy.lower()):
        if entry == "*":
            return True
        named = entry.removesuffix(f":{port}").strip("[]").removeprefix("*").strip(".")
        if address is not None:
            if _is_in_network(address, entry) or _address(named) == address:
                return True
        elif named and (name == named or name.endswith(f".{named}")):
            return True
    return False


def _is_in_network(address: _Address, entry: str) -> bool:
    network, slash, bits = entry.partition("/")
    try:
        return bool(slash) and address in ipaddress.ip_network(
            f"{network.strip('[]')}/{bits}", strict=False
        )
    except ValueError:
        return False


def _address(text: str) -> _Address | None:
    """Return the address that a text is; None for a name, which is not looked up."""
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    address = _address(host)
    return address is not None and address.is_loopback


def _reason(exc: OSError) -> str:
    """Return the system's text, such as "Connection refused", instead of asyncio's."""
    if isinstance(exc, socket.gaierror) or exc.errno is None:
        return exc.strerror or str(exc)
    return os.strerror(exc.errno)


def proxy_arguments(proxy: Proxy | None) -> dict[str, Any]:
    """Return aiohttp's request arguments for a proxy; none for a direct connection."""
    if proxy is None:
        return {}
    headers = {"Proxy-Authorization": proxy.authorization} if proxy.authorization else None
    return {"proxy": proxy.url, "proxy_headers": headers}
