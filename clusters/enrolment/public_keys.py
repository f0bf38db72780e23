"""Public keys of agents, as they are pasted or sent. Pure."""

from __future__ import annotations

import base64
import binascii
import hashlib

from opscenter.core.errors import EnrolmentRefusedError

_KEY_TYPE = b"ssh-ed25519"
_KEY_BLOB_BYTES = 51  # length-prefixed type name (4 + 11) and key (4 + 32)


def parse_public_key(text: str) -> tuple[str, str]:
    """Return an Ed25519 public key without its comment, and its fingerprint ``SHA256:...``.

    Raises:
        EnrolmentRefusedError: if it is another kind of key or not well-formed.
    """
    parts = text.split(maxsplit=2)
    if len(parts) < 2 or parts[0] != _KEY_TYPE.decode():
        raise EnrolmentRefusedError("The key must be one line that starts with ssh-ed25519.")
    try:
        blob = base64.b64decode(parts[1], validate=True)
    except (binascii.Error, ValueError) as exc:
        raise EnrolmentRefusedError("The key is not valid base64.") from exc
    head = len(_KEY_TYPE).to_bytes(4, "big") + _KEY_TYPE + (32).to_bytes(4, "big")
    if len(blob) != _KEY_BLOB_BYTES or not blob.startswith(head):
        raise EnrolmentRefusedError("The key is not a complete ssh-ed25519 key.")
    sha256 = base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")
    return f"{_KEY_TYPE.decode()} {base64.b64encode(blob).decode()}", f"SHA256:{sha256}"
