"""What the queries are made of: labels, selectors, and the shape of one query. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agent.own_parts import UNLISTED_MOUNTS, UNLISTED_TYPES, VIRTUAL_INTERFACES
from metrics.series.catalog import Kind
from metrics.sources.bounds import bounds_of

TAG = "q"
UP = "up"
"""Tag of the series for whether anything was scraped: 0 where nothing was for a minute."""
TARGET = "target"
"""Tag of the series for whether one machine was scraped: ``up`` of its exporter or kubelet."""
KUBE_STATE = "kube-state-metrics"
CADVISOR = "the kubelet's cAdvisor"
NODE_EXPORTER = "node-exporter"
ETCD = "etcd"
NODE_LABELS = (
    "exported_node", "node", "kubernetes_node", "kubernetes_io_hostname", "nodename", "instance",
)  # fmt: skip
POD_LABELS = ("namespace", "pod", "exported_namespace", "exported_pod")
NODE = ",".join(NODE_LABELS)
KSM_NODE = "node,exported_node"
POD = ",".join(POD_LABELS)
FS = f"{NODE},device,mountpoint,fstype"
# What is left is the node's own, or listed at least; rows are made of it by the same rule.
MOUNTS = f'{{fstype!~"{UNLISTED_TYPES}",mountpoint!~"{UNLISTED_MOUNTS}"}}'
CARDS = f'device!~"{VIRTUAL_INTERFACES}"'
READY = f'max by({KSM_NODE})(kube_node_status_condition{{condition="Ready",status="true"}})'
RATE_HINT = "a rate needs two samples within two minutes: is it scraped every 60 s or less often?"


@dataclass(frozen=True, slots=True)
class Query:
    """One way to get one field.

    Attributes:
        kind: the series' kind.
        field: the field, a name of the catalogue.
        rank: 0 for the best query; others fill in what it lacks.
        expr: PromQL, an instant vector of whole numbers.
        metrics: names of the metrics it needs; any one of them, where versions differ.
        exporter: the exporter of the metrics.
        hint: why the field may have no value although the metrics exist.
        part: the label of what adds up to the field, where that is not the server's to choose; ""
            if the expression is the field itself.
    """

    kind: Kind
    field: str
    rank: int
    expr: str
    metrics: tuple[str, ...]
    exporter: str
    hint: str = ""
    part: str = ""


def fresh(selector: str) -> str:
    """Return a gauge without what was last seen more than 90 s ago.

    The kubelet gives cAdvisor's samples their own timestamps. Prometheus then does not mark ended
    series as stale, and shows a deleted container for five more minutes.
    """
    return f"({selector} and count_over_time({selector}[90s]))"


def old_generation(vector: str) -> str:
    """Return a vector with the pod's label as it is named since Kubernetes 1.16."""
    return f'label_replace({vector},"pod","$1","pod_name","(.+)")'


def believable(vector: str, kind: Kind, field: str, factor: int = 1) -> str:
    """Return the parts of a sum that can be believed; ``factor`` of a part gives the field."""
    return f"{vector}>=0<={bounds_of(kind, field).most // factor}"


def without_resets(by: str, per: str, rate: str, resets: str) -> str:
    """Return summed rates, and nothing for two minutes around a reset of any of the counters."""
    parts = believable(f"max by({by},{per})({rate})", "node", "net_rx_bps")
    return f"(sum by({by})({parts}) unless (sum by({by})(max by({by},{per})({resets})) > 0))"


def tagged(expr: str, tag: str) -> str:
    """Return an expression whose series have ``tag`` as their label :data:`TAG`."""
    return f'label_replace({expr},"{TAG}","{tag}","","")'


def either(exprs: Sequence[str]) -> str:
    """Join by ``or`` as a balanced tree: every ``or`` copies all that is on its left."""
    if len(exprs) == 1:
        return exprs[0]
    half = len(exprs) // 2
    return f"({either(exprs[:half])} or {either(exprs[half:])})"
