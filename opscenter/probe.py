"""Does a process work? For health checks of containers, which ask every few seconds.

Uses the standard library only, as Django takes half a second of processor time to start::

    python -I -S opscenter/probe.py [web|hub|worker|beat]

The web process is asked for /healthz; the others leave a heartbeat in Redis. Without a name it is
what process 1 of the container runs. Exit code 0, or 1 and a line that says why. The settings are
those of ``docs/configuration.md``; ``manage.py probe`` does the same with Django's settings.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping, Sequence

NAMES = ("web", "hub", "worker", "beat")
TIMEOUT_SECONDS = 5.0
"""For each step on the network; a check as a whole ends within three of them."""

_HEARTBEAT = "opscenter:heartbeat:"
_FUTURE_SECONDS = 5.0  # a heartbeat further ahead was written by a wrong clock: it proves nothing
_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - no bind
_LONGEST_SOCKET_DIRECTORY = 85
_LONGEST_REPLY = 65_536


class ProbeError(Exception):
    """Something is not as it should be; the text says what."""


class Target(NamedTuple):
    """What is asked, and when an answer is good."""

    host: str  # that the web process listens on
    port: int
    redis_url: str
    limit_seconds: int  # age of a heartbeat
    workers: tuple[str, ...]


def target_of(environment: Mapping[str, str]) -> Target:
    """Return what the environment says, with the defaults of the settings.

    Raises:
        ProbeError: if a value cannot be used; the process has said so, too.
    """

    def number(name: str, default: int) -> int:
        text = environment.get(name, "").strip() or str(default)
        if not text.isdigit():
            msg = f"{name}={text!r} is not a whole number"
            raise ProbeError(msg)
        return int(text)

    workers = number("OPSCENTER_WORKER_PROCESSES", 1)
    return Target(
        host=environment.get("OPSCENTER_HOST", "127.0.0.1").strip(),
        port=number("OPSCENTER_PORT", 8000),
        redis_url=_redis_url(environment),
        limit_seconds=number("OPSCENTER_HEARTBEAT_LIMIT_SECONDS", 60),
        workers=("worker",)
        if workers == 1
        else tuple(f"worker-{at}" for at in range(1, workers + 1)),
    )


def _redis_url(environment: Mapping[str, str]) -> str:
    """Return REDIS_URL, what REDIS_URL_FILE holds, or the private Redis's socket."""
    url = environment.get("REDIS_URL", "").strip()
    file = environment.get("REDIS_URL_FILE", "").strip()
    if not url and file:
        try:
            url = Path(file).read_text(encoding="utf-8").strip()
        except OSError as exc:
            msg = f"REDIS_URL_FILE cannot be read: {exc.strerror}"
            raise ProbeError(msg) from exc
    return url or f"unix://{_runtime_directory(environment) / 'redis.sock'}"


def _runtime_directory(environment: Mapping[str, str]) -> Path:
    """Return where the private Redis's socket is, as :mod:`opscenter.core.paths` has it."""
    given = environment.get("OPSCENTER_DATA_DIR", "").strip()
    data = Path(given or Path(__file__).resolve().parents[1] / "var").absolute()
    if len(os.fsencode(data / "run")) <= _LONGEST_SOCKET_DIRECTORY:
        return data / "run"
    from hashlib import sha256  # rarely needed, and half of the time that this program takes
    from tempfile import gettempdir

    digest = sha256(os.fsencode(data)).hexdigest()[:12]
    return Path(gettempdir()) / f"opscenter-{os.getuid()}-{digest}"


def problem_of(name: str, target: Target, now: float | None = None) -> str:
    """Return what is wrong with a process of :data:`NAMES`; "" if nothing.

    Args:
        name: the process.
        target: where to ask.
        now: Unix seconds; the current time if None.
    """
    if name == "web":
        return _web_problem(target)
    names = target.workers if name == "worker" else (name,)
    carriers = ("worker", "up") if len(names) > 1 else ()
    try:
        keys = [_HEARTBEAT + each for each in (*carriers, *names)]
        found = read_keys(target.redis_url, keys)
    except (ProbeError, OSError, ValueError) as exc:
        return f"Redis does not answer: {exc}"
    at = time.time() if now is None else now
    beats = dict(zip((*carriers, *names), found, strict=True))
    limit = target.limit_seconds
    silent = {each: said for each in names if (said := _silence(beats[each], at, limit))}
    if (
        carriers
        and _silence(beats["up"], at, limit / 2)
        and not _silence(beats["worker"], at, limit)
    ):
        # Some worker works, and nobody asks each of them.
        silent = dict.fromkeys(silent, "not known without its supervisor")
    if len(names) == 1:
        return "".join(silent.values())
    return ", ".join(f"{each}: {said}" for each, said in silent.items())


def _silence(beat: str | None, now: float, limit_seconds: float) -> str:
    """Return in words how long a process is silent; "" if it is not."""
    try:
        age = None if beat is None else now - float(beat)
    except ValueError:
        age = None
    if age is None or age < -_FUTURE_SECONDS:
        return "no heartbeat yet"
    return f"no heartbeat for {age:.0f} s" if age > limit_seconds else ""


def _web_problem(target: Target) -> str:
    """Return why /healthz is not answered with 200; "" if it is."""
    host = _WILDCARDS.get(target.host, target.host)
    try:
        with socket.create_connection((host, target.port), TIMEOUT_SECONDS) as connection:
            connection.sendall(
                b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
            )
            with connection.makefile("rb") as answer:
                status = answer.readline(200)
    except OSError as exc:
        return f"/healthz does not answer: {exc}"
    if status.split(b" ")[1:2] == [b"200"]:
        return ""
    return f"/healthz answers {status[:40].decode('ascii', 'replace').strip() or 'nothing'}"


# --- Redis ----------------------------------------------------------------------------------------


def read_keys(url: str, keys: Sequence[str]) -> list[str | None]:
    """Return the values of keys in a Redis; None for each that does not exist.

    Args:
        url: as REDIS_URL: ``redis://``, ``rediss://`` or ``unix://``.
        keys: the names.

    Raises:
        ProbeError: if Redis refuses us or its answer is not understood.
        OSError: if it cannot be reached in time.
    """
    parts = urlsplit(url)
    options = {name: values[0] for name, values in parse_qs(parts.query).items()}
    user = unquote(parts.username or "") or options.get("username", "")
    password = unquote(parts.password or "") or options.get("password", "")
    path = "" if parts.scheme == "unix" else parts.path.strip("/")
    number = options.get("db") or path or "0"
    commands = [["AUTH", *([user] if user else []), password]] if password else []
    commands += [["SELECT", number]] if number != "0" else []
    commands.append(["MGET", *keys])
    with _connect(url, options) as connection:
        connection.sendall(b"".join(map(_encoded, commands)))
        with connection.makefile("rb") as answer:
            replies = [_reply(answer) for _ in commands]
    values = replies[-1]
    if not isinstance(values, list) or len(values) != len(keys):
        msg = "its answer is not understood"
        raise ProbeError(msg)
    return [None if value is None else str(value) for value in values]


def _connect(url: str, options: Mapping[str, str]) -> socket.socket:
    parts = urlsplit(url)
    if parts.scheme == "unix":
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(TIMEOUT_SECONDS)
        try:
            connection.connect(unquote(parts.path))
        except OSError:
            connection.close()
            raise
        return connection
    host = parts.hostname or "localhost"
    connection = socket.create_connection((host, parts.port or 6379), TIMEOUT_SECONDS)
    if parts.scheme != "rediss":
        return connection
    try:
        return _tls(options).wrap_socket(connection, server_hostname=host)
    except OSError:
        connection.close()
        raise


def _tls(options: Mapping[str, str]) -> ssl.SSLContext:
    """Return how to check the server, by the options that redis-py knows."""
    import ssl  # rarely needed, and slow to load

    context = ssl.create_default_context(cafile=options.get("ssl_ca_certs"))
    if options.get("ssl_certfile"):
        context.load_cert_chain(options["ssl_certfile"], options.get("ssl_keyfile"))
    unchecked = options.get("ssl_cert_reqs") == "none"
    if unchecked or options.get("ssl_check_hostname", "").lower() in ("false", "0", "no"):
        context.check_hostname = False
    if unchecked:
        context.verify_mode = ssl.CERT_NONE
    return context


def _encoded(words: Sequence[str]) -> bytes:
    """Return a command in Redis's protocol."""
    parts = [word.encode() for word in words]
    body = b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)
    return b"*%d\r\n%s" % (len(parts), body)


def _reply(answer: BinaryIO) -> object:
    """Return one reply: text, a list, or None for what does not exist."""
    line = answer.readline(_LONGEST_REPLY)
    kind, rest = line[:1], line[1:].strip()
    if not line.endswith(b"\n"):
        msg = "it closed the connection"
        raise ProbeError(msg)
    if kind == b"-":
        raise ProbeError(rest.decode("utf-8", "replace"))
    if kind == b"$":
        return _bulk(answer, int(rest))
    if kind == b"*":
        return [_reply(answer) for _ in range(min(int(rest), _LONGEST_REPLY))]
    return rest.decode("utf-8", "replace")


def _bulk(answer: BinaryIO, length: int) -> str | None:
    if length < 0:
        return None
    data = answer.read(min(length, _LONGEST_REPLY) + 2)
    return data[:-2].decode("utf-8", "replace")


# --- The command ----------------------------------------------------------------------------------


def names_of(command: Sequence[str]) -> tuple[str, ...]:
    """Return what a command line of a container runs of :data:`NAMES`.

    ``up`` runs all of them, ``up --only NAME`` one, and anything else, as ``prepare``, none.
    """
    if "up" not in command:
        return ()
    for at, word in enumerate(command):
        if word == "--only" and at + 1 < len(command):
            return tuple(name for name in NAMES if name == command[at + 1])
        if word.startswith("--only="):
            return tuple(name for name in NAMES if name == word.removeprefix("--only="))
    return NAMES


def _names(arguments: Sequence[str], process_one: Callable[[], bytes]) -> tuple[str, ...]:
    if not arguments:
        return names_of(process_one().decode("utf-8", "replace").split("\0"))
    if len(arguments) > 1 or arguments[0] not in NAMES:
        msg = f"give one name of {', '.join(NAMES)}, or none"
        raise ProbeError(msg)
    return (arguments[0],)


def main(arguments: Sequence[str]) -> int:
    """Check what is named; print what is wrong and return the exit code."""
    try:
        names = _names(arguments, Path("/proc/1/cmdline").read_bytes)
        target = target_of(os.environ)
        problems = {name: problem_of(name, target) for name in names}
    except (ProbeError, OSError) as exc:
        problems = {"probe": str(exc)}
    found = [f"{name}: {problem}" for name, problem in problems.items() if problem]
    sys.stderr.write("".join(f"{line}\n" for line in found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
