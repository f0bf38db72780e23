"""What ``kubectl get pods`` says of a pod: its status, ready containers, restarts, last ending.

Pure. The rules are those of the API server's own printer
(``pkg/printers/internalversion/printers.go``, Kubernetes 1.35), which makes kubectl's columns; the
field names are those of ``v1.PodStatus``. Sidecars are init containers that are restarted always.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from agent.collectors.kubefields import child, children, number, text, timestamp, total

ENDED_PHASES = frozenset({"Succeeded", "Failed"})
_NO_NEWS = frozenset({"", "PodInitializing"})
_BACK_OFF = "CrashLoopBackOff"

Container = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class PodStatus:
    """A pod's state in words.

    Attributes:
        status: kubectl's column, such as ``Running`` or ``Init:CrashLoopBackOff``.
        ready: ready containers of all, sidecars included: ``1/2``.
        restarts: of the containers that kubectl counts: all of those that run now, or while the pod
            starts of the init containers up to the one that is not done.
        reason: why the pod or one of its containers is not running; "" if nothing says so.
        message: what belongs to ``reason``, as Kubernetes words it; "" if there is none.
        last_termination: how a container last ended, failures first: ``OOMKilled, exit code 137``;
            "" if none has ended.
        last_terminated_at: when that was, in RFC 3339; "" if it is not known.
    """

    status: str
    ready: str
    restarts: float
    reason: str
    message: str
    last_termination: str
    last_terminated_at: str


def pod_status(item: Mapping[str, Any]) -> PodStatus:
    """Return the state of a pod of the API server's list."""
    sidecars = {
        text(container, "name")
        for container in children(item, "spec", "initContainers")
        if text(container, "restartPolicy") == "Always"
    }
    inits = children(item, "status", "initContainerStatuses")
    containers = children(item, "status", "containerStatuses")
    status, ready, begun = _of_init_containers(item, inits, sidecars)
    if not begun or _condition(item, "Initialized"):
        status, running = _of_containers(item, containers, status)
        ready += running
        counted = [one for one in inits if text(one, "name") in sidecars] + containers
    else:
        counted = inits[:begun]
    all_containers = len(children(item, "spec", "containers")) + len(sidecars)
    reason, message = _why(item, [*inits, *containers])
    return PodStatus(
        status=_if_deleted(item, status),
        ready=f"{ready}/{all_containers}" if all_containers else "",
        restarts=total(number(one, "restartCount") for one in counted) or 0,
        reason=reason,
        message=message,
        **_last_termination(inits, containers),
    )


def _first_status(item: Mapping[str, Any]) -> str:
    """Return what holds as long as no container says anything else."""
    if any(
        text(one, "type") == "PodScheduled" and text(one, "reason") == "SchedulingGated"
        for one in children(item, "status", "conditions")
    ):
        return "SchedulingGated"
    return text(item, "status", "reason") or text(item, "status", "phase")


def _of_init_containers(
    item: Mapping[str, Any], inits: list[dict[str, Any]], sidecars: set[str]
) -> tuple[str, int, int]:
    """Return the status so far, how many sidecars are ready, and up to which one all have begun.

    That is the one that is not done; 0 if all are.
    """
    ready = 0
    for at, one in enumerate(inits):
        ended = child(one, "state", "terminated")
        if ended is not None and (number(ended, "exitCode") or 0) == 0:
            continue
        if text(one, "name") in sidecars and child(one, "started") is True:
            ready += child(one, "ready") is True
            continue
        waiting = text(one, "state", "waiting", "reason")
        if ended is not None:
            word = _ending(ended)
        elif waiting not in _NO_NEWS:
            word = waiting
        else:
            word = f"{at}/{len(children(item, 'spec', 'initContainers'))}"
        return f"Init:{word}", ready, at + 1
    return _first_status(item), ready, 0


def _of_containers(
    item: Mapping[str, Any], containers: list[dict[str, Any]], status: str
) -> tuple[str, int]:
    """Return the status, by the first container that says one, and how many are ready."""
    running, failed = 0, ""
    for one in reversed(containers):
        waiting, ended = text(one, "state", "waiting", "reason"), child(one, "state", "terminated")
        if waiting:
            status = waiting
        elif ended is not None:
            status = _ending(ended)
            failed = status if number(ended, "exitCode") else failed
        elif child(one, "ready") is True and child(one, "state", "running") is not None:
            running += 1
    if status == "Completed":
        if running and _condition(item, "Ready"):
            status = "Running"
        elif failed or running:
            status = failed or "NotReady"
    return status, running


def _if_deleted(item: Mapping[str, Any], status: str) -> str:
    if child(item, "metadata", "deletionTimestamp") is None:
        return status
    if text(item, "status", "reason") == "NodeLost":
        return "Unknown"
    return status if text(item, "status", "phase") in ENDED_PHASES else "Terminating"


def _condition(item: Mapping[str, Any], name: str) -> bool:
    """Return whether a condition of the pod is true."""
    found = (c for c in children(item, "status", "conditions") if text(c, "type") == name)
    return any(text(condition, "status") == "True" for condition in found)


def _ending(ended: object) -> str:
    """Return kubectl's word for a container's ending."""
    signal = number(ended, "signal")
    return text(ended, "reason") or (
        f"Signal:{signal:.0f}" if signal else f"ExitCode:{number(ended, 'exitCode') or 0:.0f}"
    )


def _why(item: Mapping[str, Any], statuses: Iterable[Container]) -> tuple[str, str]:
    """Return why the pod, or the first container that says so, is not running, and the message."""
    reason = text(item, "status", "reason")
    if reason:
        return reason, text(item, "status", "message")
    waiting = [child(one, "state", "waiting") for one in statuses]
    # That a container waits for the ones before it is no reason where one of them says why.
    for found in sorted(waiting, key=lambda one: text(one, "reason") in _NO_NEWS):
        if reason := text(found, "reason"):
            # How long the next start is put off changes all the time and helps nobody.
            return reason, "" if reason == _BACK_OFF else text(found, "message")
    for condition in children(item, "status", "conditions"):
        if text(condition, "type") == "PodScheduled" and text(condition, "status") == "False":
            return text(condition, "reason"), text(condition, "message")
    return "", ""


def _last_termination(
    inits: Iterable[Container], containers: Iterable[Container]
) -> dict[str, str]:
    """Return how a container last ended and when; the newest failure, else the newest ending."""
    endings = [child(one, "lastState", "terminated") for one in (*inits, *containers)]
    endings += [child(one, "state", "terminated") for one in containers]
    # An init container that is done is nothing to tell; one that failed is.
    endings += [
        ended for one in inits if number(ended := child(one, "state", "terminated"), "exitCode")
    ]
    known = [ended for ended in endings if isinstance(ended, Mapping) and ended]
    if not known:
        return {"last_termination": "", "last_terminated_at": ""}
    newest = max(known, key=lambda one: (_failed(one), timestamp(child(one, "finishedAt")) or 0.0))
    code, signal = number(newest, "exitCode"), number(newest, "signal")
    parts = [
        text(newest, "reason"),
        f"signal {signal:.0f}" if signal else "",
        "" if code is None else f"exit code {code:.0f}",
    ]
    finished = child(newest, "finishedAt")
    return {
        "last_termination": ", ".join(filter(None, parts)),
        "last_terminated_at": str(finished) if timestamp(finished) is not None else "",
    }


def _failed(ended: Container) -> bool:
    return bool(number(ended, "exitCode") or number(ended, "signal"))
