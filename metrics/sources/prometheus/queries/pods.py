"""The queries for the fields of pods. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from metrics.sources.prometheus.queries.parts import (
    CADVISOR,
    KUBE_STATE,
    POD,
    RATE_HINT,
    Query,
    believable,
    fresh,
    old_generation,
    without_resets,
)

_CONTAINERS = '{container!="",container!="POD"}'
_OLD_CONTAINERS = '{container_name!="",container_name!="POD"}'


def _of_containers(field: str, metric: str, measure: str, *per: str, factor: int = 1) -> str:
    """Return a sum over a pod's containers, with the labels of Kubernetes 1.16 or earlier ones."""
    more = "".join(f",{label}" for label in per)
    new = measure.replace("$", metric + _CONTAINERS)
    old = old_generation(measure.replace("$", metric + _OLD_CONTAINERS))
    parts = (
        believable(f"max by({POD},{label}{more})({vector})", "pod", field, factor)
        for label, vector in (("container", new), ("container_name", old))
    )
    sums = " or ".join(f"sum by({POD})({part})" for part in parts)
    return f"round({factor}*({sums}))" if factor > 1 else f"round({sums})"


def _gauge_of_containers(field: str, metric: str, *per: str) -> str:
    return _of_containers(field, metric, fresh("$"), *per)


def _network_of_pods(metric: str) -> str:
    parts = []
    for label in ("pod", "pod_name"):
        selector = f'{metric}{{{label}!="",interface!="lo"}}'
        rate, resets = f"rate({selector}[2m])", f"resets({selector}[2m])"
        if label == "pod_name":
            rate, resets = old_generation(rate), old_generation(resets)
        parts.append(without_resets(POD, "interface", rate, resets))
    return f"round({' or '.join(parts)})"


def pod_queries() -> Iterable[Query]:
    """Yield the queries for the fields of pods."""
    hint = "no series has labels of a pod and a container; this is usual with some runtimes"
    cpu = "container_cpu_usage_seconds_total"
    expr = _of_containers("cpu_mc", cpu, "rate($[2m])", "cpu", factor=1000)
    yield Query("pod", "cpu_mc", 0, expr, (cpu,), CADVISOR, f"{RATE_HINT} Or {hint}")
    for field, metric, per in (
        ("mem_ws", "container_memory_working_set_bytes", ()),
        ("mem_rss", "container_memory_rss", ()),
        ("fs_used", "container_fs_usage_bytes", ("device",)),
    ):
        expr = _gauge_of_containers(field, metric, *per)
        yield Query("pod", field, 0, expr, (metric,), CADVISOR, hint)
    for field, way in (("net_rx_bps", "receive"), ("net_tx_bps", "transmit")):
        name = f"container_network_{way}_bytes_total"
        yield Query("pod", field, 0, _network_of_pods(name), (name,), CADVISOR, RATE_HINT)
    restarts = "kube_pod_container_status_restarts_total"
    # Sidecars are init containers that are started again; kube-state-metrics names them since 2.11.
    sidecars = (
        f"(kube_pod_init_container_status_restarts_total and on({POD},container)"
        ' kube_pod_init_container_info{restart_policy="Always"})'
    )
    expr = f"sum by({POD})(max by({POD},container)({restarts} or {sidecars}))"
    yield Query("pod", "restarts", 0, expr, (restarts,), KUBE_STATE)
