"""The queries to Prometheus for each field of the catalogue. Pure.

Every expression

* keeps the labels that identify the value's owner, under all of their names: ``pod`` and
  ``pod_name``, ``exported_pod`` where a scrape did not honour its target's labels, ``node`` and
  ``instance``;
* takes the maximum over all other labels before it adds up, so that two replicas of Prometheus, or
  two jobs that scrape one target, never count double;
* leaves parts that cannot be believed out of a sum, so that they do not spoil the others;
* rounds to whole numbers on the server, which makes answers a third shorter.

A node's value may come from several exporters. They have ranks: for each minute the lowest rank
that has a value wins. Several expressions go into one request (:func:`joined`); the label
:data:`TAG` says which one a series of the answer belongs to.
"""

from __future__ import annotations

from metrics.sources.prometheus.queries.combined import QUERIES, UP_EXPR, joined, targets_expr
from metrics.sources.prometheus.queries.facts import facts_expr
from metrics.sources.prometheus.queries.parts import (
    CADVISOR,
    ETCD,
    KUBE_STATE,
    NODE_EXPORTER,
    NODE_LABELS,
    POD_LABELS,
    TAG,
    TARGET,
    UP,
    Query,
)
from metrics.sources.prometheus.queries.probe import (
    layout_expr,
    names_expr,
    newest_expr,
    oldest_expr,
)

__all__ = [
    "CADVISOR", "ETCD", "KUBE_STATE", "NODE_EXPORTER", "NODE_LABELS", "POD_LABELS", "QUERIES",
    "TAG", "TARGET", "UP", "UP_EXPR", "Query", "facts_expr", "joined", "layout_expr",
    "names_expr", "newest_expr", "oldest_expr", "targets_expr",
]  # fmt: skip
