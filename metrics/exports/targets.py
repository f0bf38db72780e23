"""The targets of an export's files: a directory, or one zip file, readable by the owner only."""

from __future__ import annotations

import io
import os
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO, Protocol, cast


class Target(Protocol):
    """Receives files one after the other."""

    def file(self, name: str) -> Any:
        """Return a context manager with a binary stream of a new file below the target."""

    def close(self) -> None:
        """Complete the target."""

    @property
    def size_bytes(self) -> int:
        """Return how many bytes were written."""


class Directory:
    """Files in a directory, mode 0600, each renamed to its name once it is complete."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._size = 0
        path.mkdir(mode=0o700, parents=True, exist_ok=True)

    @contextmanager
    def file(self, name: str) -> Iterator[BinaryIO]:
        """Write one file."""
        final = self.path / name
        final.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        partial = part_of(final)
        with private_file(partial) as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
            self._size += stream.tell()
        partial.replace(final)

    @property
    def size_bytes(self) -> int:
        """Return how many bytes were written."""
        return self._size

    def close(self) -> None:
        """Do nothing: every file is complete."""


class Zip:
    """One zip file, mode 0600, renamed to its name once it is complete.

    Parquet is already compressed and stored unchanged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._partial = part_of(path)
        self._stream = private_file(self._partial)
        self._zip = zipfile.ZipFile(self._stream, "w", allowZip64=True)

    @contextmanager
    def file(self, name: str) -> Iterator[BinaryIO]:
        """Write one file."""
        info = zipfile.ZipInfo(name, time.gmtime()[:6])
        stored = name.endswith(".parquet")
        info.compress_type = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
        info.external_attr = 0o600 << 16
        with self._zip.open(info, "w", force_zip64=True) as entry:
            yield cast("BinaryIO", Counted(entry))

    @property
    def size_bytes(self) -> int:
        """Return how many bytes were written."""
        return self._stream.tell()

    def close(self) -> None:
        """Write the directory of the file and give it its name."""
        self._zip.close()
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self._stream.close()
        self._partial.replace(self.path)


class Counted(io.RawIOBase):
    """An entry of a zip file that supports ``tell``, which the Parquet writer needs."""

    def __init__(self, entry: IO[bytes]) -> None:
        super().__init__()
        self._entry = entry
        self._size = 0

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, data: Any) -> int:
        """Append bytes; return how many."""
        count = self._entry.write(data)
        self._size += count
        return count

    def tell(self) -> int:
        """Return how many bytes there are."""
        return self._size


def part_of(path: Path) -> Path:
    """Return the temporary path of a file until it is complete."""
    return path.with_name(f".{path.name}.part")


def private_file(path: Path) -> BinaryIO:
    """Open a new file for writing that only its owner may read; an existing one is deleted."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    return os.fdopen(descriptor, "wb")
