"""Help: what the states mean, with their limits, and the documents of this version."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render

from clusters import health
from clusters.conditions import GONE_SECONDS, SMALLEST_BYTES
from clusters.health import WORST_FIRST
from clusters.node_inventory import MISSING_SECONDS
from opscenter.pages.base import page
from opscenter.pages.notes import CLOCK_MS, SLOW_PULL_MS

DOCUMENTS = Path(settings.BASE_DIR) / "docs"
_TITLE = re.compile(r"\A#\s+(.+)$", re.MULTILINE)


@page
def overview(request: HttpRequest) -> HttpResponse:
    """Show where help is: the states, the API, the documents."""
    return render(request, "help/overview.html", {"documents": _documents(), "section": "help"})


@page
def states(request: HttpRequest) -> HttpResponse:
    """Explain each state with the limits that the judgement uses."""
    context = {"states": WORST_FIRST, "section": "help", **_limits()}
    return render(request, "help/states.html", context)


@page
def document(request: HttpRequest, name: str) -> HttpResponse:
    """Return one document as plain text."""
    del request
    path = DOCUMENTS / f"{name}.md"
    if not path.is_file():
        raise Http404
    return HttpResponse(path.read_bytes(), content_type="text/plain; charset=utf-8")


def _documents() -> list[tuple[str, str]]:
    """Return (name, title) of each document; [] where the documents are not installed."""
    found = []
    for path in sorted(DOCUMENTS.glob("*.md")):
        title = _TITLE.search(path.read_text(encoding="utf-8"))
        found.append((path.stem, title[1] if title else path.stem))
    return found


def _limits() -> dict[str, Any]:
    """Return the limits of :mod:`clusters.health` and of the notes; seconds, or ratios 0..1."""
    interval = settings.PULL_INTERVAL_SECONDS
    return {
        "interval": interval,
        "tunnel_grace": health.TUNNEL_GRACE_SECONDS,
        "tunnel_silent": health.TUNNEL_SILENT_SECONDS,
        "first_data": health.FIRST_DATA_SECONDS,
        "data_limit": health.data_limit_seconds(interval),
        "conflict": health.CONFLICT_SECONDS,
        "clock": health.CLOCK_SKEW_MS / 1000,
        "fs_degraded": health.FILESYSTEM_DEGRADED,
        "fs_critical": health.FILESYSTEM_CRITICAL,
        "inodes_degraded": health.INODES_DEGRADED,
        "inodes_critical": health.INODES_CRITICAL,
        "memory_degraded": health.MEMORY_DEGRADED,
        "gone": GONE_SECONDS,
        "smallest": SMALLEST_BYTES,
        "missing": MISSING_SECONDS,
        "note_clock": CLOCK_MS / 1000,
        "note_pull": SLOW_PULL_MS / 1000,
    }
