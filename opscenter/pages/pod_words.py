"""What the pods of a cluster are called: on a plain machine its collector names what it counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from clusters.models import Cluster
from clusters.selectors import ClusterOverview
from metrics import query
from opscenter.core.text import one_line

_LONGEST = 40


@dataclass(frozen=True, slots=True)
class PodWords:
    """The noun for what a cluster runs.

    Attributes:
        many: the plural, in lower case: "pods", "process groups", "systemd units".
        is_host: whether they belong to a plain machine: they have no namespace, network or
            restarts of their own.
    """

    many: str = "pods"
    is_host: bool = False

    @property
    def one(self) -> str:
        """Return the singular."""
        return self.many.removesuffix("s")

    @property
    def title(self) -> str:
        """Return the plural as the title of a tab or a table."""
        return self.many[:1].upper() + self.many[1:]

    def orders(self, orders: Mapping[str, str]) -> dict[str, str]:
        """Return those of a list's orders, by field, that its rows can have."""
        never = ("net_rx_bps", "net_tx_bps", "restarts") if self.is_host else ()
        return {field: words for field, words in orders.items() if field not in never}


PODS = PodWords()


def pod_words(cluster: Cluster, overview: ClusterOverview) -> PodWords:
    """Return the words for a cluster's pods.

    Pods unless it is a plain machine whose collector says what it counts; also while stored data
    cannot be read. Only of a plain machine the store is asked.
    """
    if overview.kind != "host":
        return PODS
    try:
        nodes = query.nodes(cluster, 0).items
    except query.MetricsUnavailableError:
        return PODS
    said = {one_line(node.attrs.get("pods_are", ""), _LONGEST) for node in nodes} - {""}
    return PodWords(said.pop(), is_host=True) if len(said) == 1 else PODS
