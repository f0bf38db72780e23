"""Turn the series of many answers into the rows of one window. Pure.

A column is one field of one series over the window's minutes. Columns of the same field that come
from several series (two exporters on one node, two ranks) are merged; rows are built at the end,
all fields of a series at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import repeat
from operator import itemgetter
from typing import Any

from metrics.series.catalog import FIELD_NAMES, Kind
from metrics.series.rows import MinuteRow, SeriesInfo, SeriesKey
from metrics.sources.bounds import TOO_LARGE, bounds_of, reason, why_not
from metrics.sources.prometheus.columns import first, largest, without
from metrics.sources.prometheus.node_names import Facts, host_of, is_address, pod_of
from metrics.sources.prometheus.node_sums import Disk, sum_of_interfaces, sums_of_disks
from metrics.sources.prometheus.queries import (
    CADVISOR,
    ETCD,
    KUBE_STATE,
    POD_LABELS,
    QUERIES,
    TAG,
    TARGET,
    UP,
)
from metrics.sources.prometheus.responses import Cells, Labels, Line, refuse
from metrics.sources.prometheus.targets import Targets
from metrics.sources.validation import MAX_NAME, clean_text

_KINDS: tuple[Kind, ...] = ("node", "filesystem", "pod")
_INDEXES = {(kind, name): at for kind in _KINDS for at, name in enumerate(FIELD_NAMES[kind])}
_INDEX = [_INDEXES[query.kind, query.field] for query in QUERIES]
_NETWORK_OF_PODS = {_INDEXES["pod", name] for name in ("net_rx_bps", "net_tx_bps")}
_READY = _INDEXES["node", "ready"]
_READY_QUERY = next(at for at, query in enumerate(QUERIES) if query.field == "ready")
_ROOTS = ("/rootfs", "/host/root", "/host")  # where an exporter in a container sees the machine's /
_new_row: Callable[[Iterable[Any]], MinuteRow] = partial(tuple.__new__, MinuteRow)

Columns = list[Cells | None]


class Slice:
    """Collects the series of one slice of a window.

    Args:
        times: starts of the slice's minutes in Unix seconds, ascending.
        facts: the nodes and pods of the window.
    """

    def __init__(self, times: Sequence[int], facts: Facts) -> None:
        self._times = times
        self._facts = facts
        self._pods: dict[SeriesKey, Columns] = {}
        # By raw labels; two of them may be the same pod once cleaned.
        self._pod_names: dict[tuple[str | None, ...], tuple[Columns, bool]] = {}
        # Query number -> node: ranks are merged when all of them are in.
        self._nodes: dict[int, dict[str, Cells]] = {}
        # The same by interface, where the sum is made here.
        self._parts: dict[int, dict[str, dict[str, Cells]]] = {}
        self._disks: dict[tuple[str, str], Disk] = {}
        self._up: Cells | None = None
        self._targets = Targets(facts)
        self._scraped: dict[str, list[tuple[str, Cells]]] = {}  # instance -> what nodes have of it
        self.refused: Counter[str] = Counter()
        """Nodes' values that are in no sum, or gave way to others: they cannot be believed."""
        self.disowned: set[str] = set()
        """Nodes whose values are left out, because another node has their address now."""

    def add(self, lines: Iterable[Line], allowed: frozenset[int]) -> None:
        """Add one answer.

        Args:
            lines: the answer's series, checked.
            allowed: numbers of the queries that were sent.

        Raises:
            BadResponseError: a series of any other query, or with a name that is refused.
        """
        routes = {str(number): (QUERIES[number].kind, number) for number in allowed}
        lines = list(lines)
        for labels, cells in lines:
            if labels.get(TAG) == TARGET:
                self._targets.add(labels, cells)
        for labels, cells in lines:
            tag = labels.get(TAG, "")
            if tag == UP:
                self._up = cells
            if tag in (UP, TARGET):
                continue
            if tag not in routes:
                refuse(f"a series with {TAG}={tag[:20]!r}, which was not asked for", "bad_value")
            kind, number = routes[tag]
            if kind == "pod":
                self._add_pod(number, labels, cells)
            elif kind == "node":
                self._add_node(number, labels, cells)
            else:
                self._add_disk(number, labels, cells)

    def _add_pod(self, number: int, labels: Labels, cells: Cells) -> None:
        name = (*map(labels.get, POD_LABELS),)
        pod = self._pod_names.get(name)
        if pod is None:
            pod = self._pod_names[name] = self._pod(labels)
        columns, on_host = pod
        index = _INDEX[number]
        if on_host and index in _NETWORK_OF_PODS:
            return  # it would show the node's traffic as its own
        before = columns[index]
        columns[index] = cells if before is None else largest(before, cells)

    def _pod(self, labels: Labels) -> tuple[Columns, bool]:
        """Return a pod's columns, and whether it is on its node's network."""
        pod = pod_of(labels)
        if pod is None:
            return [None] * len(FIELD_NAMES["pod"]), False  # not of a pod: dropped
        columns = self._pods.setdefault(SeriesKey("pod", *pod), [None] * len(FIELD_NAMES["pod"]))
        return columns, self._facts.is_on_host(pod)

    def _add_node(self, number: int, labels: Labels, cells: Cells) -> None:
        query = QUERIES[number]
        if query.exporter == CADVISOR and self._facts.exporters_alone:
            return  # cAdvisor beside node-exporter, without Kubernetes: the same machine
        if query.exporter == ETCD and not self._facts.kubernetes:
            node = self._facts.only_machine(labels)
        else:
            node = self._facts.node_of(labels)
        if node is None:
            return
        cells = self._targets.answered(labels, cells)
        if query.exporter != KUBE_STATE:
            self._scraped.setdefault(labels.get("instance", ""), []).append((node, cells))
        columns, name = self._nodes.setdefault(number, {}), node
        if query.part:
            columns = self._parts.setdefault(number, {}).setdefault(node, {})
            name = labels.get(query.part, "")
        if name in columns:
            cells = self._merged(query.field, columns[name], cells, largest)
        columns[name] = cells

    def _merged(
        self, field: str, one: Cells, other: Cells, choose: Callable[[Cells, Cells], Cells]
    ) -> Cells:
        """Return two columns of a node's field as one: what can be believed goes first."""
        merged = choose(one, other)
        totals = [cell.total for cell in merged if cell is not None]
        bounds = bounds_of("node", field)
        if not totals or bounds.least < min(totals) <= max(totals) <= bounds.most:
            return merged
        for at, cell in enumerate(merged):
            why = "" if cell is None else why_not("node", field, cell)
            spare = other[at] if cell is one[at] else one[at]
            if why and spare is not None and not why_not("node", field, spare):
                merged[at] = spare
                self.refused[reason("node", field, why)] += 1
        return merged

    def _add_disk(self, number: int, labels: Labels, cells: Cells) -> None:
        node = self._facts.node_of(labels)
        raw = labels.get("mountpoint", "")
        point = _mount_point(clean_text(raw, "mountpoint", MAX_NAME))
        if node is None or not point:
            return
        disk = self._disks.get((node, point))
        if disk is None:
            read_only = (node, raw) in self._facts.read_only
            disk = self._disks[node, point] = Disk(labels, point, read_only=read_only)
        index = _INDEX[number]
        cells = self._targets.answered(labels, cells)
        before = disk.columns[index]
        disk.columns[index] = cells if before is None else largest(before, cells)

    def finish(self) -> tuple[list[MinuteRow], list[SeriesInfo]]:
        """Return the slice's rows, ascending by time, and the infos of their series."""
        self._leave_to_others()
        disks = self._chosen_disks()
        nodes = self._node_columns(disks)
        tables: list[tuple[SeriesKey, Columns]] = [
            *((SeriesKey("node", "", name), columns) for name, columns in nodes.items()),
            *((SeriesKey("filesystem", *name), disk.columns) for name, disk in disks.items()),
            *self._pods.items(),
        ]
        rows: list[MinuteRow] = []
        for key, columns in tables:
            rows += self._rows(key, columns)
        dead = self._dead_minutes()
        if dead:
            rows = [row for row in rows if row.ts not in dead]
        rows.sort(key=itemgetter(0))
        return rows, self._infos(nodes, disks)

    def _rows(self, key: SeriesKey, columns: Columns) -> Iterable[MinuteRow]:
        size = len(self._times)
        cells = zip(*(repeat(None, size) if c is None else c for c in columns), strict=True)
        rows = map(_new_row, zip(self._times, repeat(key), cells))
        if any(column is not None and None not in column for column in columns):
            return rows
        return [row for row in rows if any(row.cells)]

    def _dead_minutes(self) -> set[int]:
        """Return minutes in which nothing was scraped; their values are older."""
        if self._up is None:
            return set()
        return {
            time
            for time, cell in zip(self._times, self._up, strict=True)
            if cell is not None and cell.total == 0
        }

    def _chosen_disks(self) -> dict[tuple[str, str], Disk]:
        """Return each device once: the shortest path where it is mounted several times."""
        taken: set[tuple[str, str]] = set()
        chosen = {}
        for name in sorted(self._disks, key=lambda name: (name[0], len(name[1]), name[1])):
            disk = self._disks[name]
            if disk.listed and (name[0], disk.identity) not in taken:
                taken.add((name[0], disk.identity))
                chosen[name] = disk
        return chosen

    def _node_columns(self, disks: dict[tuple[str, str], Disk]) -> dict[str, Columns]:
        """Return all fields of each node, each from the best rank that has a value."""
        nodes: dict[str, Columns] = {}
        by_node: dict[str, list[Disk]] = {}
        for (node, _), disk in disks.items():
            by_node.setdefault(node, []).append(disk)
        for node, of_node in by_node.items():
            if any(disk.own for disk in of_node):
                columns = nodes.setdefault(node, _no_columns())
                for field, cells in sums_of_disks(of_node, len(self._times)).items():
                    columns[_INDEXES["node", field]] = cells
        self._sum_interfaces()
        for number in sorted(self._nodes, key=lambda number: QUERIES[number].rank):
            index = _INDEX[number]
            for node, cells in self._nodes[number].items():
                columns = nodes.setdefault(node, _no_columns())
                before = columns[index]
                columns[index] = (
                    cells
                    if before is None
                    else self._merged(QUERIES[number].field, before, cells, first)
                )
        for machine, ready in self._targets.ready():
            if machine in nodes or any(ready):
                columns = nodes.setdefault(machine, _no_columns())
                columns[_READY] = first(columns[_READY], ready)
        return nodes

    def _sum_interfaces(self) -> None:
        for number, by_node in self._parts.items():
            field = QUERIES[number].field
            for node, parts in by_node.items():
                rates = {name: self._believed(field, cells) for name, cells in parts.items()}
                cells = sum_of_interfaces(rates, self._facts.links.get(node, {}))
                if cells is not None:
                    self._nodes.setdefault(number, {})[node] = cells

    def _believed(self, field: str, cells: Cells) -> Cells:
        """Return an interface's rates without those that no machine has; below zero is a reset."""
        most = bounds_of("node", field).most
        bad = {at for at, cell in enumerate(cells) if cell is not None and cell.total > most}
        if not bad:
            return cells
        self.refused[reason("node", field, TOO_LARGE)] += len(bad)
        return without(cells, bad)

    def _leave_to_others(self) -> None:
        """Leave out values of an address that belongs to another node by now.

        A cloud may give the address of a lost node to another one while Kubernetes still lists
        both; who scrapes by node then finds one machine under two names. It is the ready one's.
        """
        ready = self._nodes.get(_READY_QUERY, {})
        for node, others in self._sharing().items():
            gone = self._positions(ready.get(node), 0)
            gone &= set[int]().union(*(self._positions(ready.get(name), 1) for name in others))
            if not gone:
                continue
            self.disowned.add(node)
            for number, columns in self._nodes.items():
                if QUERIES[number].exporter != KUBE_STATE and node in columns:
                    columns[node] = without(columns[node], gone)
            for by_node in self._parts.values():
                parts = by_node.get(node, {})
                parts.update({name: without(cells, gone) for name, cells in parts.items()})
            for (owner, _), disk in self._disks.items():
                if owner == node:
                    disk.columns = [c and without(c, gone) for c in disk.columns]

    def _sharing(self) -> dict[str, set[str]]:
        """Return the other nodes with the same address, by node.

        By Kubernetes' list; and where one address is scraped under two names. A name as address is
        that of a proxy, behind which every node has its own.
        """
        sharing = {node: set(others) for node, others in self._facts.sharing.items()}
        for instance, found in self._scraped.items():
            nodes = {node for node, cells in found if any(cells)}
            if len(nodes) > 1 and is_address(host_of(instance)):
                for node in nodes:
                    sharing.setdefault(node, set()).update(nodes - {node})
        return sharing

    @staticmethod
    def _positions(cells: Cells | None, value: int) -> set[int]:
        """Return where a column has a value."""
        return {at for at, cell in enumerate(cells or ()) if cell and cell.total == value}

    def _infos(
        self, nodes: dict[str, Columns], disks: dict[tuple[str, str], Disk]
    ) -> list[SeriesInfo]:
        facts = self._facts
        infos = [
            SeriesInfo(SeriesKey("node", "", name), "", facts.node_attrs.get(name, {}))
            for name in nodes
        ]
        infos += [
            SeriesInfo(SeriesKey("filesystem", *name), name[0], disk.attrs())
            for name, disk in disks.items()
        ]
        for key in self._pods:
            about = facts.pods.get((key.ns, key.name))
            attrs = {"owner": about.owner} if about is not None and about.owner else {}
            infos.append(SeriesInfo(key, about.node if about is not None else "", attrs))
        return infos


def _no_columns() -> Columns:
    return [None] * len(FIELD_NAMES["node"])


def _mount_point(point: str) -> str:
    """Return a mount point as seen on the machine itself."""
    for root in _ROOTS:
        if point == root:
            return "/"
        if point.startswith(f"{root}/"):
            return point.removeprefix(root)
    return point
