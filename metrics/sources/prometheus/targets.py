"""What ``up`` says of machines: whether they answer, and whether they are ready. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from metrics.sources.prometheus.columns import largest
from metrics.sources.prometheus.node_names import Facts
from metrics.sources.prometheus.responses import Cells, Labels


class Targets:
    """The exporters and kubelets of a slice's machines, minute by minute.

    Args:
        facts: the nodes and pods of the window.
    """

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._machines: dict[str, Cells] = {}  # machine -> whether any of its targets is up
        self._instances: dict[str, Cells] = {}  # instance -> whether it is up

    def add(self, labels: Labels, cells: Cells) -> None:
        """Add ``up`` of one target; of several of one machine or address, one that is up counts."""
        machine = self._facts.machine_of(labels)
        for name, known in ((machine, self._machines), (labels.get("instance"), self._instances)):
            if name:
                known[name] = largest(known[name], cells) if name in known else cells

    def answered(self, labels: Labels, cells: Cells) -> Cells:
        """Return a plain machine's values without those of minutes in which it did not answer.

        A rate looks two minutes back: it has values for some time after a machine died.
        """
        up = self._instances.get(labels.get("instance", ""))
        if up is None or self._facts.kubernetes:
            return cells
        return [
            None if is_up is not None and is_up.total == 0 else cell
            for cell, is_up in zip(cells, up, strict=True)
        ]

    def ready(self) -> Iterator[tuple[str, Cells]]:
        """Yield each machine and whether it is ready, where ``up`` can tell.

        Kubernetes itself says which of its nodes are ready. Where it is silent that is not known,
        except of a node that answers nobody. Nothing else makes a machine ready: not its values.
        """
        told = (0,) if self._facts.kubernetes else (0, 1)
        for machine, up in self._machines.items():
            yield (
                machine,
                [cell if cell is not None and cell.total in told else None for cell in up],
            )
