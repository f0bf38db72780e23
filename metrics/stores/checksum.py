"""A checksum over stored rows that does not depend on their order, nor on the store."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

from metrics.stores.copier import StoredRow

MODULUS = 1 << 63


def of_row(row: StoredRow) -> int:
    """Return one row's checksum, 0 to :data:`MODULUS`.

    Fields that were not measured do not count, so that fields added to the catalogue later change
    nothing.
    """
    ts, key, n, cells = row
    parts: list[object] = [ts, len(key.ns), len(key.name), *key, n]
    for at, cell in enumerate(cells):
        if cell is not None:
            parts += (at, *cell)
    text = "\0".join(map(str, parts))
    digest = blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") % MODULUS


def add(rows: Iterable[StoredRow], checksum: int = 0) -> int:
    """Return the checksum of rows together with that of earlier ones."""
    for row in rows:
        checksum = (checksum + of_row(row)) % MODULUS
    return checksum
