"""The log lines of a Celery task: its name, its cluster, and the request that started it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from celery.signals import before_task_publish, task_postrun, task_prerun

from opscenter.core.log_context import bind, current, unbind

_HEADER = "opscenter_request_id"
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_CLUSTER = "cluster_id"
_BOUND = "opscenter_log_context"


def connect() -> None:
    """Follow the tasks that this process sends and runs."""
    before_task_publish.connect(_send_request_id, dispatch_uid=_HEADER)
    task_prerun.connect(_begin, dispatch_uid=_HEADER)
    task_postrun.connect(_end, dispatch_uid=_HEADER)


def _send_request_id(headers: dict[str, Any] | None = None, **_: object) -> None:
    """Let the request that is being served, if any, travel with the task."""
    request_id = current("request_id")
    if headers is not None and request_id:
        headers[_HEADER] = request_id


def _begin(task: Any, args: Any = (), kwargs: Any = None, **_: object) -> None:
    """Bind the context of a task that is about to run in this thread."""
    fields = {"task": str(task.name)}
    request_id = task.request.get(_HEADER)
    if isinstance(request_id, str) and _ID.fullmatch(request_id):
        fields["request_id"] = request_id
    cluster = _cluster_of(task, args, kwargs or {})
    if cluster:
        fields["cluster"] = cluster
    setattr(task.request, _BOUND, bind(**fields))


def _end(task: Any, **_: object) -> None:
    """Forget it: the thread runs another task next."""
    bound = getattr(task.request, _BOUND, None)
    if bound is not None:
        unbind(bound)


def _cluster_of(task: Any, args: Any, kwargs: Mapping[str, Any]) -> str:
    """Return the cluster that a task is about: its argument of that name; "" if it has none."""
    names = _parameters(task.run)
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    return str(given.get(_CLUSTER, ""))


@cache
def _parameters(function: Any) -> tuple[str, ...]:
    return tuple(inspect.signature(function).parameters)
