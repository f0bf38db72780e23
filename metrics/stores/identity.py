"""Whose a metric store is: each of its places holds the id of the installation that writes it.

Pure but for the protocol: what is read of the places is judged here, by values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Protocol
from uuid import UUID


@dataclass(frozen=True, slots=True)
class StorePlace:
    """One place of a store: a file, or an InfluxDB with its prefix of buckets.

    Attributes:
        name: how a person finds it; a path or an address.
        identity: the installation's id in it; "" if it has none.
        clusters: the clusters that it holds data of, as far as it can say so.
        belongs: returns whether data of a cluster would be here.
        replaced: whether this process still works on what was here before.
    """

    name: str
    identity: str
    clusters: frozenset[UUID]
    belongs: Callable[[UUID], bool]
    replaced: bool = False


class IdentifiedStore(Protocol):
    """The part of a metric store that says and takes an identity."""

    def places(self, clusters: Iterable[UUID]) -> list[StorePlace]:
        """Return its places as they are now, read anew; none is made.

        Args:
            clusters: the clusters with data, of which a place may look for points.

        Raises:
            StoreError: one cannot be read.
        """

    def adopt(self, installation: str) -> None:
        """Write the id into every place that has none; missing places are made.

        Raises:
            StoreError: one cannot be written.
        """


class Ownership(Enum):
    """What a place of a store is to an installation; the values complete "... is" for anybody."""

    OURS = "ours"
    ADOPTABLE = "ours, without our id"
    EMPTY = "empty, although clusters have data"
    FOREIGN = "another installation's"
    REPLACED = "another one than at the start: restart Ops Center"


def ownership(
    place: StorePlace, identity: str, *, known: Iterable[UUID], with_data: Iterable[UUID]
) -> Ownership:
    """Return what a place is to the installation of an id.

    A place without an id is ours if it holds data of one cluster that this database knows: ids of
    clusters are random, so nobody else's store has it.

    Args:
        place: the place.
        identity: the installation's id.
        known: the clusters that the database knows, also from its audit log.
        with_data: those of which it says that there is data.
    """
    if place.replaced:
        return Ownership.REPLACED
    if place.identity:
        return Ownership.OURS if place.identity == identity else Ownership.FOREIGN
    if not place.clusters.isdisjoint(known):
        return Ownership.ADOPTABLE
    if place.clusters:
        return Ownership.FOREIGN
    return Ownership.EMPTY if any(map(place.belongs, with_data)) else Ownership.ADOPTABLE
