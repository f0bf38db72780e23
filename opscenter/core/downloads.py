"""Large files as answers: streamed in pieces, also from where a download broke off."""

from __future__ import annotations

import io
import re
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

from asgiref.sync import sync_to_async
from django.http import HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase

PIECE_BYTES = 256 * 1024
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


def file_response(
    path: Path, *, name: str, content_type: str, range_header: str = ""
) -> HttpResponseBase:
    """Return a file as a download.

    Args:
        path: the file; it must not change any more.
        name: the name for the browser: ASCII letters, digits, dots and dashes.
        content_type: its media type.
        range_header: the request's ``Range``, "" for none; one range of bytes is answered by 206,
            one outside the file by 416, anything else by the whole file.

    Raises:
        FileNotFoundError: if it is gone.
    """
    size = path.stat().st_size
    span = byte_range(range_header, size)
    if span is None:
        return HttpResponse(status=416, headers={"Content-Range": f"bytes */{size}"})
    start, end = span
    is_part = (start, end) != (0, size)
    response = StreamingHttpResponse(
        _pieces(path, start, end), status=206 if is_part else 200, content_type=content_type
    )
    response.headers["Content-Length"] = str(end - start)
    response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    response.headers["Accept-Ranges"] = "bytes"
    # The file never changes: browsers resume a download only if they can tell.
    response.headers["ETag"] = f'"{path.stem}-{size}"'
    if is_part:
        response.headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    return response


def byte_range(range_header: str, size: int) -> tuple[int, int] | None:
    """Return the bytes that a ``Range`` header asks for, end excluded; None if there are none.

    The whole file for no header and for what is not one range of bytes, as RFC 9110 allows.
    """
    found = _RANGE.fullmatch(range_header.replace(" ", ""))
    if found is None or not (found[1] or found[2]):
        return (0, size)
    if not found[1]:
        length = int(found[2])
        return (max(0, size - length), size) if length and size else None
    start = int(found[1])
    end = min(size, int(found[2]) + 1) if found[2] else size
    return (start, end) if start < end else None


async def _pieces(path: Path, start: int, end: int) -> AsyncIterator[bytes]:
    """Yield the bytes of a range; reading happens in a thread, one piece at a time."""
    stream = await sync_to_async(partial(io.FileIO, path))()
    try:
        await sync_to_async(stream.seek)(start)
        left = end - start
        while left > 0:
            piece = await sync_to_async(stream.read)(min(PIECE_BYTES, left))
            if not piece:
                return
            left -= len(piece)
            yield piece
    finally:
        stream.close()
