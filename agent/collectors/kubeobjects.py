"""Reads Kubernetes' objects and the kubelet's summary.

Pure. Everything in an answer is optional, as in Kubernetes' own types, and may be of any type: what
is absent or of another type is None or "", never an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

ENDED_PHASES = frozenset({"Succeeded", "Failed"})
_ROLE = "node-role.kubernetes.io/"
_QUANTITY = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))(?:([eE][+-]?\d+)|([numkKMGTPE]i?))?$")
_SUFFIX = {
    "n": 1e-9, "u": 1e-6, "m": 1e-3, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15,
    "E": 1e18, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50, "Ei": 2**60,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class KubeNode:
    """A node as the API server knows it; ``ready`` is None if it does not say."""

    name: str
    cpu_cap_mc: float | None
    mem_cap: float | None
    ready: int | None
    attrs: dict[str, str]


@dataclass(frozen=True, slots=True)
class KubePod:
    """A pod as the API server knows it; ``restarts`` is None before a container has a status."""

    ns: str
    name: str
    uid: str
    node: str
    phase: str
    host_network: bool
    restarts: float | None
    attrs: dict[str, str]


def quantity(value: object) -> float | None:
    """Return a resource quantity (``2``, ``1500m``, ``3948464Ki``, ``1e3``); None if it is none.

    Source: Kubernetes' ``resource.Quantity``, decimal and binary suffixes.
    """
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return None
    match = _QUANTITY.match(str(value).strip())
    if match is None:
        return None
    number, exponent, suffix = match.groups()
    if suffix and suffix not in _SUFFIX:
        return None
    return float(number + (exponent or "")) * (_SUFFIX[suffix] if suffix else 1)


def timestamp(value: object) -> float | None:
    """Return an RFC 3339 time as Unix seconds; None if it is none."""
    if not isinstance(value, str):
        return None
    # Go writes nanoseconds; fromisoformat of Python 3.11 and later cuts them.
    try:
        parsed = datetime.fromisoformat(value)
    except ValueError:
        return None
    return parsed.timestamp() if parsed.tzinfo is not None else None


def number(data: object, *path: str) -> float | None:
    """Return the number at ``path``; None if it is absent or no number."""
    value = child(data, *path)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value)


def child(data: object, *path: str) -> Any:
    """Return what is at ``path`` in nested objects; None if it is absent."""
    for name in path:
        if not isinstance(data, Mapping):
            return None
        data = data.get(name)
    return data


def children(data: object, *path: str) -> list[dict[str, Any]]:
    """Return the objects of the list at ``path``; empty if it is absent."""
    value = child(data, *path)
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def text(data: object, *path: str) -> str:
    """Return the text at ``path``; "" if it is absent or no text."""
    value = child(data, *path)
    return value if isinstance(value, str) else ""


def total(values: Iterable[float | None]) -> float | None:
    """Return the sum of what is known; None if nothing is."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def parse_node(item: Mapping[str, Any]) -> KubeNode | None:
    """Return a node of the API server's list; None if it has no name."""
    name = text(item, "metadata", "name")
    if not name:
        return None
    labels = child(item, "metadata", "labels")
    labels = labels if isinstance(labels, Mapping) else {}
    roles = sorted(key.removeprefix(_ROLE) for key in labels if str(key).startswith(_ROLE))
    info = {
        key: text(item, "status", "nodeInfo", source)
        for key, source in (
            ("kubelet", "kubeletVersion"),
            ("os", "osImage"),
            ("kernel", "kernelVersion"),
            ("arch", "architecture"),
            ("runtime", "containerRuntimeVersion"),
        )
    }
    cpu = quantity(child(item, "status", "capacity", "cpu"))
    conditions = children(item, "status", "conditions")
    pressed = [
        text(condition, "type")
        for condition in conditions
        if text(condition, "type") != "Ready" and text(condition, "status") == "True"
    ]
    return KubeNode(
        name=name,
        cpu_cap_mc=None if cpu is None else cpu * 1000,
        mem_cap=quantity(child(item, "status", "capacity", "memory")),
        ready=next((_ready(c) for c in conditions if text(c, "type") == "Ready"), None),
        attrs={
            "roles": ",".join(role for role in roles if role),
            **info,
            "conditions": ",".join(sorted(pressed)),
            "cordoned": "yes" if child(item, "spec", "unschedulable") is True else "",
        },
    )


def parse_pod(item: Mapping[str, Any]) -> KubePod | None:
    """Return a pod of the API server's list; None if it has no name."""
    ns, name = text(item, "metadata", "namespace"), text(item, "metadata", "name")
    if not ns or not name:
        return None
    statuses = children(item, "status", "containerStatuses")
    containers = children(item, "spec", "containers")
    images = [text(container, "image") for container in containers]
    more = f" +{len(images) - 1}" if len(images) > 1 else ""
    restarts = total(number(status, "restartCount") for status in statuses)
    return KubePod(
        ns=ns,
        name=name,
        uid=text(item, "metadata", "uid"),
        node=text(item, "spec", "nodeName"),
        phase=text(item, "status", "phase"),
        host_network=child(item, "spec", "hostNetwork") is True,
        restarts=restarts,
        attrs={
            "phase": text(item, "status", "phase"),
            "reason": _reason(item, statuses),
            "owner": _owner(item),
            "image": f"{images[0][:240]}{more}" if images else "",
            "last_termination": _last_termination(statuses),
        },
    )


def _ready(condition: Mapping[str, Any]) -> int:
    # "Unknown" is the control plane's state for a node that it has lost: not ready.
    return 1 if text(condition, "status") == "True" else 0


def _owner(item: Mapping[str, Any]) -> str:
    """Return ``Kind/name`` of the controller; a ReplicaSet of a Deployment as the Deployment."""
    owners = children(item, "metadata", "ownerReferences")
    owner = next((o for o in owners if child(o, "controller") is True), owners[0] if owners else {})
    kind, name = text(owner, "kind"), text(owner, "name")
    template = text(item, "metadata", "labels", "pod-template-hash")
    if kind == "ReplicaSet" and template and name.endswith(f"-{template}"):
        return f"Deployment/{name.removesuffix(f'-{template}')}"
    return f"{kind}/{name}" if kind and name else ""


def _reason(item: Mapping[str, Any], statuses: list[dict[str, Any]]) -> str:
    """Return why the pod or the first of its containers is not running; "" if all is well."""
    reason = text(item, "status", "reason")
    waiting = (text(status, "state", "waiting", "reason") for status in statuses)
    return reason or next((found for found in waiting if found), "")


def _last_termination(statuses: list[dict[str, Any]]) -> str:
    """Return the reason of the newest termination of any container, such as ``OOMKilled``."""
    newest, reason = 0.0, ""
    for status in statuses:
        ended = child(status, "lastState", "terminated")
        finished = timestamp(child(ended, "finishedAt")) or 0.0
        if ended is not None and finished >= newest:
            code = number(ended, "exitCode")
            newest = finished
            reason = text(ended, "reason") or ("" if code is None else f"exit code {code:.0f}")
    return reason
