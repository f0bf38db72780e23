"""The numbers of a cluster that lists show and health judges: their only list.

What a pull says, what health judges and what lists show inherit :class:`StatusNumbers`; the
query and the REST API follow :data:`NUMBERS`, and the fleet's table shows some of them. A new
number is a line here and a column of :class:`~clusters.models.ClusterStatus` with its migration.
One that is no :class:`NodeSum` is measured in :mod:`metrics.pulling.summary`. No Django.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal, get_type_hints

Unit = Literal["count", "millicores", "bytes", "0..1", "permille", "name"]


@dataclass(frozen=True, slots=True)
class Number:
    """What describes a number besides its type.

    Attributes:
        unit: of the number, or of each in a sequence; "name" names what the number before it
            measures.
        api: its name in the API's list of clusters; "" where the list leaves it out.
        about: what the API's schema says about it.
    """

    unit: Unit
    api: str = ""
    about: str = ""


@dataclass(frozen=True, slots=True)
class NodeSum(Number):
    """A sum over the nodes, of the catalogue's field with the number's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusNumbers:
    """The numbers of a cluster's newest minute, in the API's order. None means not known."""

    nodes_ready: Annotated[int | None, Number("count", "nodes_ready")] = None
    nodes_total: Annotated[int | None, Number("count", "nodes_total")] = None
    nodes_unknown: Annotated[
        int | None,
        Number("count", "nodes_unknown", "Nodes of which it is not known whether they are ready."),
    ] = None
    nodes_not_ready: Annotated[Sequence[str], Number("name")] = ()  # at most 10
    pods: Annotated[int | None, Number("count", "pods")] = None
    cpu_mc: Annotated[int | None, NodeSum("millicores", "cpu_used_millicores")] = None
    cpu_cap_mc: Annotated[int | None, NodeSum("millicores", "cpu_capacity_millicores")] = None
    mem_ws: Annotated[int | None, NodeSum("bytes", "memory_used_bytes")] = None
    mem_cap: Annotated[int | None, NodeSum("bytes", "memory_capacity_bytes")] = None
    cpu_share: Annotated[
        float | None, Number("0..1", "cpu_share", "0..1, of the nodes that measured both.")
    ] = None
    mem_share: Annotated[
        float | None, Number("0..1", "memory_share", "0..1, of the nodes that measured both.")
    ] = None
    fs_worst_ratio: Annotated[
        float | None,
        Number("0..1", "filesystem_worst_ratio", "0..1, of the fullest filesystem."),
    ] = None
    fs_worst_name: Annotated[str, Number("name", "filesystem_worst_name")] = ""  # "node /mount"
    inodes_worst_ratio: Annotated[float | None, Number("0..1", "inodes_worst_ratio", "0..1")] = None
    inodes_worst_name: Annotated[str, Number("name", "inodes_worst_name")] = ""
    # Of capacity, one a minute; at most 60, the last one ends at data_as_of.
    cpu_history: Annotated[Sequence[int | None], Number("permille")] = ()


NUMBERS: dict[str, Number] = {
    name: hint.__metadata__[0]
    for name, hint in get_type_hints(StatusNumbers, include_extras=True).items()
}
"""Every number by its name, which is also that of its column."""

_DEFAULTS: dict[str, Any] = {field.name: field.default for field in fields(StatusNumbers)}


def known_numbers(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the numbers of a row by name; what is NULL there takes its default."""
    return {
        name: default if row[name] is None else row[name] for name, default in _DEFAULTS.items()
    }
