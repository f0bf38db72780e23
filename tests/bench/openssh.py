"""The tunnel's yardstick: stock ``sshd`` with stock ``ssh -N -R``, both on loopback."""

from __future__ import annotations

import contextlib
import getpass
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

_CIPHER = "aes128-gcm@openssh.com"


def free_port() -> int:
    """Return a TCP port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int, seconds: float = 10) -> None:
    """Return once something accepts on the port.

    Raises:
        TimeoutError: if nothing does in time.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    msg = f"nothing listens on 127.0.0.1:{port}"
    raise TimeoutError(msg)


def _key(path: Path) -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return path


@contextlib.contextmanager
def stock_tunnel(target_port: int, directory: Path) -> Iterator[int]:
    """Run a stock reverse tunnel to ``target_port``; yield the port at the server's end.

    Raises:
        FileNotFoundError: if openssh-server or openssh-client is not installed.
    """
    sshd = shutil.which("sshd") or "/usr/sbin/sshd"
    if not Path(sshd).exists():
        msg = "sshd is missing: install openssh-server"
        raise FileNotFoundError(msg)
    Path("/run/sshd").mkdir(exist_ok=True)  # sshd insists on its privilege separation directory
    directory.mkdir(parents=True, exist_ok=True)
    host, user = _key(directory / "host"), _key(directory / "user")
    (directory / "authorized").write_text((directory / "user.pub").read_text())
    port, remote = free_port(), free_port()
    config = directory / "sshd_config"
    config.write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {host}\nPidFile none\nUsePAM no\n"
        f"AuthorizedKeysFile {directory / 'authorized'}\nStrictModes no\n"
        "PasswordAuthentication no\nPermitRootLogin prohibit-password\nAllowTcpForwarding yes\n"
    )
    daemon = subprocess.Popen([sshd, "-D", "-e", "-f", str(config)], stderr=subprocess.DEVNULL)
    client = None
    try:
        wait_for_port(port)
        client = subprocess.Popen(
            [
                "ssh", "-F", "/dev/null", "-N", "-T", "-p", str(port), "-i", str(user),
                "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
                "-o", "ExitOnForwardFailure=yes", "-o", "IdentitiesOnly=yes", "-c", _CIPHER,
                "-R", f"{remote}:127.0.0.1:{target_port}", f"{getpass.getuser()}@127.0.0.1",
            ],
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        wait_for_port(remote)
        yield remote
    finally:
        for process in (client, daemon):
            if process is not None:
                process.terminate()
                process.wait()
