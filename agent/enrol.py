"""Joining the centre: a single-use token and our public key in exchange for an identity.

The token travels once, over TLS; the private key never travels. Over plain http the join command
must carry the fingerprint of the hub's key, so that nobody in between can substitute another hub.
"""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import logging
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import aiohttp
import asyncssh
import orjson

from agent import __version__
from agent.config import Config
from agent.reasons import reason_of
from agent.state import Enrolment, ensure_key, public_line, save_enrolment
from agent.tunnel.backoff import retry_delay_seconds
from agent.tunnel.egress import (
    NEARER,
    EgressError,
    proxy_arguments,
    proxy_for,
    split_address,
    tls_context,
)
from agent.tunnel.reach import Reach, literal_reach, reach_of
from agent.tunnel.websocket import checked_connector

logger = logging.getLogger(__name__)

DEADLINE_SECONDS = 20.0
MAX_ANSWER_BYTES = 64 * 1024
_MAX_ITEMS = 16


class EnrolmentError(Exception):
    """The agent has not joined.

    Attributes:
        permanent: True if asking again with the same token will not help.
    """

    def __init__(self, message: str, *, permanent: bool) -> None:
        super().__init__(message)
        self.permanent = permanent


def token_digest(token: str) -> str:
    """Return the digest that shows whether a token is new; the token cannot be derived from it."""
    return hashlib.sha256(b"opscenter-join\0" + token.encode()).hexdigest()[:16]


async def enrol(config: Config, *, kind: str) -> Enrolment:
    """Join with the configured token and store the answer in the data directory.

    Args:
        config: the configuration, with ``url`` and ``token``.
        kind: kind of the cluster, ``host`` or ``kubernetes``.

    Raises:
        EnrolmentError: permanent if the centre refused or its answer cannot be trusted;
            otherwise the centre could not be reached.
        StateError: if the key or the answer cannot be stored.
    """
    parts = urlsplit(config.url)
    host = parts.hostname or ""
    if parts.scheme == "http" and not config.hub_keys and not _is_local(host):
        msg = "the URL is plain http: give the hub's fingerprint by --hub-key, or use https"
        raise EnrolmentError(msg, permanent=True)
    body = {
        "token": config.token,
        "public_key": public_line(ensure_key(config.data_dir)),
        "agent_version": __version__,
        "kind": kind,
    }
    answer, centre = await _post(f"{config.url}/api/v1/agents/enrol", orjson.dumps(body))
    enrolment = _only_permitted(_read_answer(answer, config), centre)
    save_enrolment(config.data_dir, enrolment)
    logger.info("joined as cluster %s (%s)", enrolment.cluster_name, enrolment.cluster_id)
    return enrolment


async def _post(url: str, body: bytes) -> tuple[Any, Reach]:
    """Return the decoded 200 answer of a POST, within the deadline and the cap.

    Also how the centre was reached: behind a proxy, where nobody here looks a name up, as what it
    says, which is the internet for a name.
    """
    timeout = aiohttp.ClientTimeout(total=DEADLINE_SECONDS)
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    parts = urlsplit(url)
    where = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    port = parts.port or (443 if parts.scheme == "https" else 80)
    tried: list[str] = []
    try:
        proxy = proxy_for(parts.hostname or "", port, scheme=parts.scheme)
        async with (
            aiohttp.ClientSession(
                timeout=timeout,
                cookie_jar=aiohttp.DummyCookieJar(),
                connector=checked_connector(None, tried),
            ) as session,
            session.post(
                url,
                data=body,
                headers=headers,
                allow_redirects=False,
                ssl=tls_context(),
                **proxy_arguments(proxy),
            ) as response,
        ):
            content = await _read_capped(response)
            status = response.status
    except (aiohttp.ClientSSLError, aiohttp.ClientConnectorCertificateError) as exc:
        raise EnrolmentError(
            f"{where}: TLS is not trusted: {reason_of(exc)}", permanent=False
        ) from exc
    except TimeoutError as exc:
        msg = f"{where} did not answer within {DEADLINE_SECONDS:.0f} s"
        raise EnrolmentError(msg, permanent=False) from exc
    except (aiohttp.ClientError, EgressError, OSError, ValueError) as exc:
        raise EnrolmentError(
            f"{where} cannot be reached: {reason_of(exc)}", permanent=False
        ) from exc
    answer = _decode(where, status, content)
    if proxy is not None or not tried:
        return answer, literal_reach(parts.hostname or "") or Reach.INTERNET
    return answer, reach_of(ipaddress.ip_address(tried[-1].partition("%")[0]))


async def _read_capped(response: aiohttp.ClientResponse) -> bytes:
    content = bytearray()
    async for chunk in response.content.iter_chunked(8192):
        content += chunk
        if len(content) > MAX_ANSWER_BYTES:
            raise EnrolmentError("the answer is too long for an enrolment", permanent=True)
    return bytes(content)


def _decode(where: str, status: int, content: bytes) -> Any:
    """Return the JSON of a 200 answer; raise with the server's reason otherwise."""
    try:
        answer = orjson.loads(content)
    except orjson.JSONDecodeError:
        answer = None
    if status == 200 and isinstance(answer, dict):
        return answer
    # Refusals are answers 400, 403 and 404; 429, 5xx and proxies' own pages are temporary.
    permanent = status in (400, 401, 403, 404, 405, 410, 422) or status == 200
    error = answer.get("error") if isinstance(answer, dict) else None
    reason = error.get("message") if isinstance(error, dict) else None
    if isinstance(reason, str) and reason:
        raise EnrolmentError(_one_line(reason), permanent=permanent)
    if 300 <= status < 400:
        raise EnrolmentError(f"{where} redirects; give the address it leads to", permanent=True)
    msg = f"{where} answered {status}, which is not an Ops Center's answer"
    raise EnrolmentError(msg, permanent=permanent)


def _read_answer(answer: Any, config: Config) -> Enrolment:
    """Check every part of the answer.

    Raises:
        EnrolmentError: permanent; the message names the part.
    """
    try:
        hub = answer["hub"]
        enrolment = Enrolment(
            cluster_id=str(UUID(answer["cluster_id"])),
            cluster_name=_one_line(str(answer["cluster_name"])),
            addresses=tuple(_address(item) for item in hub.get("addresses", [])[:_MAX_ITEMS]),
            ws_urls=tuple(_ws_url(item) for item in hub.get("ws_urls", [])[:_MAX_ITEMS]),
            host_keys=tuple(_host_key(item) for item in hub["known_hosts"][:_MAX_ITEMS]),
            keepalive_seconds=min(max(int(answer.get("keepalive_seconds", 15)), 1), 300),
            url=config.url,
            token_digest=token_digest(config.token),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        msg = f"the centre's answer cannot be used: {type(exc).__name__} {exc}"
        raise EnrolmentError(_one_line(msg), permanent=True) from exc
    if not enrolment.host_keys or not (enrolment.addresses or enrolment.ws_urls):
        raise EnrolmentError("the centre's answer names no hub or no host key", permanent=True)
    return _only_expected_keys(enrolment, config.hub_keys)


def _only_permitted(enrolment: Enrolment, centre: Reach) -> Enrolment:
    """Return the enrolment with only the addresses that the centre may name; others are logged.

    Names are judged when they are dialled.

    Raises:
        EnrolmentError: permanent, if none is left.
    """
    refused: list[str] = []

    def permitted(address: str, host: str) -> bool:
        reach = literal_reach(host)
        if reach is None or centre.may_name(reach):
            return True
        refused.append(f"{address} ({NEARER[reach]}, and the centre is not)")
        return False

    addresses = tuple(a for a in enrolment.addresses if permitted(a, split_address(a)[0]))
    ws_urls = tuple(
        url for url in enrolment.ws_urls if permitted(url, urlsplit(url).hostname or "")
    )
    if refused and not (addresses or ws_urls):
        msg = f"the centre names no hub that this agent dials: {', '.join(refused)}"
        raise EnrolmentError(_one_line(msg), permanent=True)
    for line in refused:
        logger.warning("this address of the hub will not be dialled: %s", _one_line(line))
    return replace(enrolment, addresses=addresses, ws_urls=ws_urls, centre=centre)


def _only_expected_keys(enrolment: Enrolment, expected: tuple[str, ...]) -> Enrolment:
    """Return the enrolment with only the host keys of the given fingerprints, if any were given."""
    if not expected:
        return enrolment
    prints = {line: fingerprint(line) for line in enrolment.host_keys}
    matching = tuple(line for line in enrolment.host_keys if prints[line] in expected)
    if not matching:
        msg = (
            f"the hub's host key is {', '.join(prints.values())} and not {', '.join(expected)} as "
            "the join command says: somebody may be in between"
        )
        raise EnrolmentError(msg, permanent=True)
    return replace(enrolment, host_keys=matching)


def fingerprint(line: str) -> str:
    """Return ``SHA256:...`` of a public key line."""
    return asyncssh.import_public_key(line).get_fingerprint()


def _address(value: Any) -> str:
    split_address(value)
    return str(value)


def _ws_url(value: Any) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("ws", "wss") or not parts.hostname or parts.port == 0:
        raise ValueError(f"{str(value)[:80]!r} is not a ws or wss address")
    return str(value)


def _host_key(value: Any) -> str:
    line = " ".join(str(value).split()[:2])
    try:
        asyncssh.import_public_key(line)
    except asyncssh.KeyImportError as exc:
        raise ValueError(f"{line[:40]!r} is not a public key") from exc
    return line


def _is_local(host: str) -> bool:
    return host in ("localhost", "127.0.0.1", "::1")


def _one_line(text: str) -> str:
    shown = "".join(character if character.isprintable() else " " for character in text)
    return " ".join(shown.split())[:300]


async def enrol_with_retries(
    config: Config, *, kind: str, uniform: Callable[[float, float], float] = random.uniform
) -> Enrolment:
    """Join, asking again with back-off for as long as the centre cannot be reached.

    Raises:
        EnrolmentError: permanent; the centre refused.
        StateError: if the key or the answer cannot be stored.
    """
    attempt = 0
    while True:
        try:
            return await enrol(config, kind=kind)
        except EnrolmentError as exc:
            if exc.permanent:
                raise
            delay = retry_delay_seconds(attempt, uniform)
            logger.warning("not joined yet: %s; trying again in %.1f s", exc, delay)
        attempt += 1
        await asyncio.sleep(delay)
