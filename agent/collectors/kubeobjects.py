"""Reads Kubernetes' nodes and pods: what of them is reported. Pure, and never an error."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agent.collectors.kubefields import child, children, quantity, text, timestamp
from agent.collectors.podstatus import pod_status

_ROLE = "node-role.kubernetes.io/"
_LEGACY_ROLE = "kubernetes.io/role"
_BAD_CONDITIONS = frozenset(
    {
        # The kubelet's own, and those of network plug-ins and old releases.
        "MemoryPressure", "DiskPressure", "PIDPressure", "NetworkUnavailable", "OutOfDisk",
        # The node problem detector's.
        "KernelDeadlock", "ReadonlyFilesystem", "CorruptDockerOverlay2", "CorruptOverlay2",
        "KubeletUnhealthy", "ContainerRuntimeUnhealthy", "CperHardwareErrorFatal", "XfsShutdown",
        "KubeletProblem", "ContainerRuntimeProblem", "FilesystemCorruptionProblem",
        "FrequentKubeletRestart", "FrequentDockerRestart", "FrequentContainerdRestart",
        "FrequentUnregisterNetDevice",
    }
)  # fmt: skip
"""Conditions that are bad news when True. All others are left out: who made them may mean good news
by True, as K3s does by ``EtcdIsVoter``."""
_BAD_NEWS = re.compile(
    ".+(Problem|Pressure|Unhealthy|Deadlock|Corruption|Mismatch)|(Frequent|Corrupt).+"
)
"""Conditions of problem detectors' own configuration, which say by their name that they are bad."""
_CRON_RUN = re.compile(r"(.+)-(\d{8,10})")
_CRON_RUN_DAYS = 30
_ANY_CRON_RUN = range(26_297_280, 52_594_560)
"""Minutes since 1970 of the years 2020 to 2069."""
_STATIC_UID = "kubernetes.io/config.hash"
_MIRROR = "kubernetes.io/config.mirror"


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
    """A pod as the API server knows it, or a kubelet where the API server lists none.

    Attributes:
        kubelet_uid: the uid by which the kubelet knows it; "" if that is not known.
        host_network: None if it is not known.
        restarts: None if they are not known.
        ended_at: when a container last ended, in Unix seconds; None if none has.
    """

    ns: str
    name: str
    uid: str
    kubelet_uid: str
    node: str
    phase: str
    host_network: bool | None
    restarts: float | None
    ended_at: float | None
    attrs: dict[str, str]


def parse_node(item: Mapping[str, Any]) -> KubeNode | None:
    """Return a node of the API server's list; None if it has no name."""
    name = text(item, "metadata", "name")
    if not name:
        return None
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
    said = next((one for one in conditions if text(one, "type") == "Ready"), None)
    ready = _ready(said)
    return KubeNode(
        name=name,
        # A virtual node may say 0: what it has is then not known.
        cpu_cap_mc=cpu * 1000 if cpu else None,
        mem_cap=quantity(child(item, "status", "capacity", "memory")) or None,
        ready=ready,
        attrs={
            "roles": ",".join(_roles(item)),
            "conditions": ",".join(sorted(filter(None, map(_bad_news, conditions)))),
            "cordoned": "1" if child(item, "spec", "unschedulable") is True else "",
            "reason": "" if ready == 1 else text(said, "reason"),
            "message": "" if ready == 1 else text(said, "message"),
            **info,
        },
    )


def parse_pod(item: Mapping[str, Any]) -> KubePod | None:
    """Return a pod of the API server's list; None if it has no name."""
    ns, name = text(item, "metadata", "namespace"), text(item, "metadata", "name")
    if not ns or not name:
        return None
    images = [text(container, "image") for container in children(item, "spec", "containers")]
    more = f" +{len(images) - 1}" if len(images) > 1 else ""
    state = pod_status(item)
    return KubePod(
        ns=ns,
        name=name,
        uid=text(item, "metadata", "uid"),
        kubelet_uid=_kubelet_uid(item),
        node=text(item, "spec", "nodeName"),
        phase=text(item, "status", "phase"),
        host_network=child(item, "spec", "hostNetwork") is True,
        restarts=state.restarts,
        ended_at=timestamp(state.last_terminated_at),
        attrs={
            "status": state.status,
            "ready": state.ready,
            "phase": text(item, "status", "phase"),
            "reason": state.reason,
            "message": state.message,
            "owner": _owner(item),
            "image": f"{images[0][:240]}{more}" if images else "",
            "last_termination": state.last_termination,
            "last_terminated_at": state.last_terminated_at,
        },
    )


def _kubelet_uid(item: Mapping[str, Any]) -> str:
    """Return the pod's own uid, but the hash of its file for a static pod."""
    if _is_static(item):
        return text(item, "metadata", "annotations", _STATIC_UID)
    return text(item, "metadata", "uid")


def _is_static(item: Mapping[str, Any]) -> bool:
    """Return whether the pod mirrors one that a kubelet made from a file."""
    owners = children(item, "metadata", "ownerReferences")
    return bool(text(item, "metadata", "annotations", _MIRROR)) or any(
        text(owner, "kind") == "Node" for owner in owners
    )


def _ready(condition: Mapping[str, Any] | None) -> int | None:
    """Return 1, 0, or None if the node does not say; "Unknown" is a node that was lost: 0."""
    return {"True": 1, "False": 0, "Unknown": 0}.get(text(condition, "status"))


def _bad_news(condition: Mapping[str, Any]) -> str:
    """Return the name of a condition that is bad news; "" for others.

    Of a part, such as EKS' ``NetworkingReady``, it is bad that it is not ready: the name is then
    ``NetworkingNotReady``.
    """
    name, status = text(condition, "type"), text(condition, "status")
    if status == "True" and (name in _BAD_CONDITIONS or _BAD_NEWS.fullmatch(name)):
        return name
    part = name.removesuffix("Ready")
    return f"{part}NotReady" if status == "False" and part not in ("", name) else ""


def _roles(item: Mapping[str, Any]) -> list[str]:
    labels = child(item, "metadata", "labels")
    labels = labels if isinstance(labels, Mapping) else {}
    roles = {str(key).removeprefix(_ROLE) for key in labels if str(key).startswith(_ROLE)}
    roles.add(text(labels, _LEGACY_ROLE))
    return sorted(role for role in roles if role)


def _owner(item: Mapping[str, Any]) -> str:
    """Return ``Kind/name`` of the workload that the pod belongs to; "" for a pod of its own.

    It is the controller, but a Deployment for its ReplicaSet and a CronJob for the Job of one run.
    A static pod belongs to the pods of its name on all nodes: ``Static/kube-proxy``.
    """
    owners = children(item, "metadata", "ownerReferences")
    owner = next((o for o in owners if child(o, "controller") is True), owners[0] if owners else {})
    kind, name = text(owner, "kind"), text(owner, "name")
    template = text(item, "metadata", "labels", "pod-template-hash")
    pod, node = text(item, "metadata", "name"), text(item, "spec", "nodeName")
    if kind == "ReplicaSet" and template and name.endswith(f"-{template}"):
        return f"Deployment/{name.removesuffix(f'-{template}')}"
    if _is_static(item):
        return f"Static/{pod.removesuffix(f'-{node or name}')}"
    run = _CRON_RUN.fullmatch(name)
    if kind == "Job" and run and _is_cron_run(int(run[2]), item):
        return f"CronJob/{run[1]}"
    return f"{kind}/{name}" if kind and name else ""


def _is_cron_run(number: int, item: Mapping[str, Any]) -> bool:
    """Return whether a Job's number is the minute (before Kubernetes 1.21: second) of a run.

    People number Jobs as well, by dates for example; a run's pod is made near that minute.
    """
    created = timestamp(child(item, "metadata", "creationTimestamp"))
    if created is None:
        return number in _ANY_CRON_RUN
    return any(abs(created - at) < _CRON_RUN_DAYS * 86_400 for at in (number * 60, number))
