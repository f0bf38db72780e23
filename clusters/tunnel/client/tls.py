"""TLS to a service behind a tunnel: which certificates we trust, and which one we present."""

from __future__ import annotations

import os
import ssl
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from opscenter.core.errors import InvalidInputError
from opscenter.core.text import one_line


@dataclass(frozen=True, slots=True)
class TlsIdentity:
    """How to speak TLS with a service.

    Attributes:
        ca: PEM certificates that are trusted; "" means those of this machine.
        server_name: name or address that the service's certificate must hold. "" checks no name,
            which needs a private ``ca``: then any certificate it signed is trusted.
        certificate: our own certificate as PEM, "" for none.
        key: its private key as PEM; never shown.
    """

    ca: str = ""
    server_name: str = ""
    certificate: str = ""
    key: str = field(default="", repr=False)

    def context(self) -> ssl.SSLContext:
        """Return the context of connections.

        Raises:
            InvalidInputError: naming the part that cannot be used.
        """
        if not self.ca and not self.server_name:
            msg = "server_name: give the name in the service's certificate, or its CA"
            raise InvalidInputError(msg)
        try:
            context = ssl.create_default_context(cadata=self.ca or None)
        except (ssl.SSLError, ValueError) as exc:
            msg = f"ca: not a PEM certificate: {one_line(str(exc), 100)}"
            raise InvalidInputError(msg) from exc
        context.check_hostname = bool(self.server_name)
        if self.certificate or self.key:
            self._load_own(context)
        return context

    def _load_own(self, context: ssl.SSLContext) -> None:
        """Load our certificate; OpenSSL reads it only from a file, which is deleted right away."""
        descriptor, name = tempfile.mkstemp(prefix="opscenter-", suffix=".pem")  # mode 0600
        try:
            with os.fdopen(descriptor, "w", encoding="ascii", errors="replace") as file:
                file.write(f"{self.certificate.strip()}\n{self.key.strip()}\n")
            # A key that asks for a password would wait for a terminal.
            context.load_cert_chain(name, password=lambda: "")
        except (ssl.SSLError, OSError, ValueError) as exc:
            msg = "certificate: the certificate and its key do not fit, or are not PEM"
            raise InvalidInputError(msg) from exc
        finally:
            Path(name).unlink(missing_ok=True)
