"""The columns of the fleet's table. A new one is a line in :data:`FLEET_COLUMNS`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from clusters.status_numbers import NUMBERS, Unit


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the fleet's table, between the reason for the state and the age of the data.

    Attributes:
        title: its heading.
        number: what it shows: an attribute of :class:`~clusters.selectors.ClusterOverview`.
        cell: how it is shown: "amount" with its unit, "share" as bar and percent, "history" as a
            line over the last hour, "ready" as so many of all nodes.
        alt: the history in words, for screen readers.
    """

    title: str
    number: str
    cell: Literal["amount", "share", "history", "ready"] = "amount"
    alt: str = ""

    @property
    def numeric(self) -> bool:
        """Return whether its cells are set flush right."""
        return self.cell in ("amount", "ready")

    @property
    def unit(self) -> Unit:
        """Return the unit of what it shows."""
        return NUMBERS[self.number].unit


FLEET_COLUMNS = (
    Column("Nodes ready", "nodes_ready", "ready"),
    Column("CPU, last hour", "cpu_history", "history", "CPU over the last hour, of capacity"),
    Column("Memory", "mem_ratio", "share"),
)
