"""Findings as they are stored beside the state: JSON, and back. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from clusters.health_facts import LEVELS, Finding

MAX_FINDINGS = 60


def finding_as_json(finding: Finding) -> dict[str, Any]:
    """Return what is stored of a finding."""
    return {
        "key": finding.key,
        "level": finding.level,
        "text": finding.text,
        "since": None if finding.since is None else finding.since.timestamp(),
        "at_least": finding.at_least,
        "share": finding.share,
    }


def findings_of(stored: object) -> tuple[Finding, ...]:
    """Return stored findings; what this version cannot read is left out."""
    if not stored:
        return ()
    entries = stored if isinstance(stored, list) else []
    return tuple(_finding(entry) for entry in entries[:MAX_FINDINGS] if _is_sound(entry))


def _is_sound(entry: object) -> bool:
    return (
        isinstance(entry, Mapping)
        and entry.get("level") in LEVELS
        and isinstance(entry.get("key"), str)
        and isinstance(entry.get("text"), str)
    )


def _finding(entry: Mapping[str, Any]) -> Finding:
    since: Any = entry.get("since")
    return Finding(
        entry["key"],
        entry["level"],
        entry["text"],
        datetime.fromtimestamp(since, UTC) if type(since) in (int, float) else None,
        entry.get("at_least") is True,
        float(entry.get("share") or 0),
    )
