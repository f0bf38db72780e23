"""What pages say of Kubernetes' nodes and pods by their attributes, in words for people. Pure.

The attributes are those of the agent (``docs/measurements.md``) and of other sources; any of them
may be absent.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

LABELS = {
    "status": "status",
    "ready": "containers ready",
    "phase": "phase",
    "reason": "reason",
    "message": "message",
    "last_termination": "last termination",
    "last_terminated_at": "last terminated",
    "owner": "workload",
    "workload": "workload",
    "image": "image",
    "roles": "roles",
    "role": "roles",
    "conditions": "pressure",
    "cordoned": "cordoned",
    "problem": "no numbers because",
    "hostname": "host name",
    "os": "operating system",
    "kernel": "kernel",
    "arch": "architecture",
    "kubelet": "kubelet",
    "runtime": "container runtime",
    "pods_are": "what is listed",
}
"""Names of attributes for people; others are shown by their own name."""

_CALM = frozenset({"", "Running", "Completed", "Succeeded"})
_WAITING = frozenset(
    {"Pending", "ContainerCreating", "PodInitializing", "Terminating", "SchedulingGated"}
)
_ON_THE_WAY = re.compile(r"Init:\d+/\d+")
_CAPITALS = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")

Attributes = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Fact:
    """An attribute for people: its name, and its text or its time."""

    label: str
    text: str
    at: datetime | None = None


def facts(attrs: Attributes, *, without: Iterable[str] = ()) -> list[Fact]:
    """Return the attributes for people, but those of the names ``without``."""
    hidden = set(without)
    return [_fact(key, value) for key, value in attrs.items() if value and key not in hidden]


def workload(attrs: Attributes) -> str:
    """Return the workload of a pod, such as ``Deployment/web``; "" if it is not known."""
    return attrs.get("owner") or attrs.get("workload") or ""


def status(attrs: Attributes) -> str:
    """Return a pod's status as kubectl words it; of sources that do not say it the nearest to it.

    "" if nothing is known, as of what is no pod of Kubernetes.
    """
    return attrs.get("status") or attrs.get("reason") or attrs.get("phase") or ""


def status_state(attrs: Attributes) -> str:
    """Return the state whose colour a pod's status has; "" if there is nothing to look at.

    A pod that runs is not called healthy: nothing checked more than its probes.
    """
    found = status(attrs)
    if found == "Unknown":
        return "unknown"
    if found in _CALM:
        return "" if found != "Running" or _is_all_ready(attrs) else "degraded"
    if found == "NotReady" or (found == "Pending" and attrs.get("reason")):
        return "degraded"
    return "pending" if found in _WAITING or _ON_THE_WAY.fullmatch(found) else "critical"


def last_termination(attrs: Attributes) -> tuple[str, datetime | None]:
    """Return how a container of the pod last ended, and when; "" and None if not known."""
    return attrs.get("last_termination", ""), _time(attrs.get("last_terminated_at", ""))


def roles(attrs: Attributes) -> str:
    """Return the roles of a node: "control-plane, etcd"; "" if it has none."""
    return _listed(attrs.get("roles", ""))


def marks(attrs: Attributes) -> list[str]:
    """Return what is wrong with a node or was done to it: "cordoned", "memory pressure"."""
    found = ["cordoned"] if attrs.get("cordoned") in ("1", "yes") else []
    return found + [_spoken(name) for name in attrs.get("conditions", "").split(",") if name]


def _is_all_ready(attrs: Attributes) -> bool:
    ready, _, every = attrs.get("ready", "").partition("/")
    return ready == every or not every


def _fact(key: str, value: str) -> Fact:
    label = LABELS.get(key, key.replace("_", " "))
    if key.endswith("_at") and (at := _time(value)) is not None:
        return Fact(label, value, at)
    if key == "cordoned":
        return Fact(label, "yes" if value in ("1", "yes") else value)
    if key == "conditions":
        return Fact(label, ", ".join(_spoken(name) for name in value.split(",") if name))
    return Fact(label, _listed(value) if key in ("roles", "role") else value)


def _spoken(name: str) -> str:
    """Return the name of a condition as words: "memory pressure", "PID pressure"."""
    words = _CAPITALS.sub(" ", name).split()
    return " ".join(word if word.isupper() else word.lower() for word in words)


def _listed(text: str) -> str:
    return ", ".join(filter(None, text.split(",")))


def _time(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found.astimezone(UTC) if found.tzinfo is not None else None
