"""The inventory of a cluster's nodes: which were seen, which are missing, which were removed.

A machine that dies sends nothing; one that was removed is not listed any more. Only a list of what
should be there tells the two apart: Kubernetes' own, or a host's agent, which is one machine. With
any other source a node that is absent counts as missing until an operator dismisses it or the
others have sent for :data:`MISSING_SECONDS` without it. A time in which nothing was known of any of
them does not count: a machine that does not come back with the others is missed then.
"""

from __future__ import annotations

import hashlib
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from django.contrib.auth.models import User
from django.db import transaction

from clusters.audit import Actor, record
from clusters.conditions import Condition, What
from clusters.models import Cluster, ClusterNode, ClusterStatus
from opscenter.core.errors import ConflictError
from opscenter.core.text import one_line

MISSING_SECONDS = 86_400
"""How long an absent node counts as missing, from the first minute that others sent without it."""
LATE_SECONDS = 120
"""How late a node's newest minute may be before it is missing: its source may bring it later."""
MAX_NODES = 1000
"""How many nodes are kept for a cluster; of more, those that were seen longest ago are forgotten,
and new ones are not recorded while all are present."""


@dataclass(frozen=True, slots=True)
class SeenNode:
    """A node in the newest minute of a source.

    Attributes:
        name: its name.
        ready: whether it said that it is ready; None if it did not say.
        detail: why it is not, or why it does not say; "" if not known.
        since: since when it is not ready, by the minutes; None if they do not say.
        at_least: whether it may have been so before ``since``.
    """

    name: str
    ready: bool | None
    detail: str = ""
    since: datetime | None = None
    at_least: bool = False


@dataclass(frozen=True, slots=True)
class Stock:
    """What stock was taken of last: while the same nodes are seen, nothing has to be written.

    Attributes:
        key: identifies the nodes, what they say and their source.
        written_at: the minute's end at which the rows were written: nodes that were last seen then
            or later have been seen in every minute since.
        seen_until: end of the newest minute in which the same nodes were seen.
    """

    key: str
    written_at: datetime
    seen_until: datetime

    def as_json(self) -> dict[str, str]:
        """Return what is stored in the status row, beside ``data_as_of``."""
        return {"key": self.key, "written_at": self.written_at.isoformat()}


def stock_of(current: ClusterStatus | None) -> Stock | None:
    """Return the stock that a status row remembers; None if the inventory says all itself."""
    stored = None if current is None else current.stock
    if current is None or current.data_as_of is None or not stored:
        return None
    return Stock(stored["key"], datetime.fromisoformat(stored["written_at"]), current.data_as_of)


@dataclass(frozen=True, slots=True)
class NodeCounts:
    """How many nodes there are, and what is off at single ones. ready + unknown <= total.

    ``stock`` is what the next stock-taking is to be compared with; None if it has to look again.
    """

    total: int
    ready: int
    unknown: int
    not_ready: Sequence[str]  # names of those that are not ready or missing
    conditions: Sequence[Condition]
    stock: Stock | None = None


Silence = Literal["ready", "reports", "unknown"]
"""What it means that a node sends numbers, but not whether it is ready: ``ready`` for a host whose
agent of before says so by reporting; ``reports`` for a source that never says it, unless it once
did; ``unknown`` for everything that could have said it."""


def take_stock(
    cluster: Cluster,
    seen: Sequence[SeenNode],
    as_of: datetime,
    *,
    listed: bool,
    source: str,
    silence: Silence,
    stock: Stock | None = None,
) -> NodeCounts:
    """Record the nodes of a newest minute and count them with those that are missing.

    No query while the same nodes are seen and none is missing; else 2, some more when nodes come,
    go, or say for the first time whether they are ready. Call it in a transaction with the
    cluster's status row locked.

    Args:
        cluster: the cluster.
        seen: its nodes in the newest minute.
        as_of: end of that minute, by our clock.
        listed: whether ``seen`` is a list of what should be there: absent nodes were removed.
        source: kind of the source, for display.
        silence: what it means that a node does not say whether it is ready.
        stock: of the stock-taking before; None looks at the inventory again.
    """
    seen = _clean(seen)
    key = _key_of(seen, listed=listed, source=source, silence=silence)
    if stock is not None and stock.key == key and stock.written_at <= as_of:
        counts = count_nodes(seen, {}, (), as_of, silence)
        return replace(counts, stock=replace(stock, seen_until=as_of))
    known = {row.name: row for row in _rows_of(cluster, stock)}
    _record(cluster, seen, known, as_of, source)
    names = {node.name for node in seen}
    absent = [row for name, row in known.items() if name not in names and row.removed_at is None]
    if listed and absent:
        ClusterNode.objects.filter(pk__in=[row.pk for row in absent]).update(removed_at=as_of)
        absent = []
    _note_absence(absent, as_of)
    missing = {row.name: row.last_seen_at for row in absent if _is_missing(row, as_of)}
    said = frozenset(name for name, row in known.items() if row.says_ready)
    former = frozenset(row.name for row in absent if row.listed_by != source[:30])
    counts = count_nodes(seen, missing, said, as_of, silence, former)
    fell_silent = silence == "reports" and any(n.ready is None and n.name in said for n in seen)
    went_back = any(row.last_seen_at >= as_of for row in absent)
    if missing or fell_silent or went_back or not names <= known.keys():
        return counts
    return replace(counts, stock=Stock(key, as_of, as_of))


def count_nodes(
    seen: Sequence[SeenNode],
    missing: Mapping[str, datetime],
    said: Container[str],
    as_of: datetime,
    silence: Silence,
    former: Container[str] = (),
) -> NodeCounts:
    """Return the counts; pure.

    Args:
        seen: the nodes in the newest minute.
        missing: node -> end of its newest minute, of those that are absent and not removed.
        said: names of the nodes that ever said whether they are ready.
        as_of: end of the newest minute.
        silence: what it means that a node does not say whether it is ready.
        former: names of those of ``missing`` that another source saw last: this one may never have
            known them.
    """
    off: list[Condition] = []
    ready = 0
    for node in seen:
        by_reporting = silence == "ready" or (silence == "reports" and node.name not in said)
        if node.ready or (node.ready is None and by_reporting):
            ready += 1
        else:
            what: What = "not_said" if node.ready is None else "not_ready"
            off.append(
                Condition(
                    what=what, node=node.name, detail=node.detail,
                    since=node.since, at_least=node.at_least,
                )
            )  # fmt: skip
    for name, at in sorted(missing.items()):
        late = as_of - at <= timedelta(seconds=LATE_SECONDS)
        detail = "only the source before knew it" if name in former else ""
        if at > as_of:
            detail = "its last data is dated later than the cluster's newest: a clock was wrong"
        absence: What = "not_said" if late or name in former else "missing"
        since = None if at > as_of else at
        off.append(Condition(what=absence, node=name, detail=detail, since=since))
    lost = [one.node for one in off if one.what != "not_said"]
    return NodeCounts(len(seen) + len(missing), ready, len(off) - len(lost), sorted(lost), off)


NodeState = Literal["present", "missing", "dismissed", "removed", "gone", "unknown"]


def node_state(row: ClusterNode, as_of: datetime | None) -> NodeState:
    """Return what is known of a node's place in its cluster; pure.

    Args:
        row: the node.
        as_of: end of the cluster's newest minute; None if there is none.

    Returns:
        ``missing`` counts among the cluster's nodes, and may be dismissed; ``gone`` did, until
        :data:`MISSING_SECONDS` were over; of ``unknown`` a wrong clock said that it was seen after
        the cluster's newest minute.
    """
    if row.removed_at is not None:
        return "removed"
    if as_of is None or row.last_seen_at == as_of:
        return "present"
    if row.last_seen_at > as_of:
        return "unknown"
    if _is_dismissed(row):
        return "dismissed"
    return "missing" if _is_missing(row, as_of) else "gone"


def node_of(cluster: Cluster, name: str) -> ClusterNode | None:
    """Return one node of the inventory; None if the cluster never had it. One query."""
    rows = ClusterNode.objects.select_related("dismissed_by")
    row = rows.filter(cluster=cluster, name=name).first()
    return None if row is None else _up_to_date(row, stock_of(getattr(cluster, "current", None)))


def require_missing(cluster: Cluster, row: ClusterNode) -> None:
    """Check that a node is missing: only such a one can be dismissed.

    Raises:
        ConflictError: saying what it is instead.
    """
    current: ClusterStatus | None = getattr(cluster, "current", None)
    state = node_state(row, None if current is None else current.data_as_of)
    if state != "missing":
        raise ConflictError(f"name: only a missing node can be dismissed; this one is {state}")


def nodes_of(cluster: Cluster) -> list[ClusterNode]:
    """Return the inventory by name, removed nodes included. One query."""
    stock = stock_of(getattr(cluster, "current", None))
    rows = ClusterNode.objects.filter(cluster=cluster).select_related("dismissed_by")
    return [_up_to_date(row, stock) for row in rows.order_by("name")]


def dismiss_node(
    cluster: Cluster, name: str, *, user: User, actor: Actor, now: datetime
) -> ClusterNode | None:
    """Say that a missing node is gone for good, until it is seen again.

    Returns:
        The node; None if the cluster never had it.
    """
    with transaction.atomic():
        row = ClusterNode.objects.select_for_update().filter(cluster=cluster, name=name).first()
        if row is None:
            return None
        row.dismissed_at, row.dismissed_by = now, user
        row.save(update_fields=["dismissed_at", "dismissed_by"])
        record("node.dismiss", actor=actor, cluster_id=cluster.pk, detail={"node": name}, now=now)
    return row


def _is_dismissed(row: ClusterNode) -> bool:
    return row.dismissed_at is not None and row.dismissed_at >= row.last_seen_at


def _clean(seen: Sequence[SeenNode]) -> list[SeenNode]:
    """Return nodes with names that a database takes, each name once, at most MAX_NODES."""
    by_name: dict[str, SeenNode] = {}
    for node in seen[:MAX_NODES]:
        name = one_line(node.name, 253) or "?"
        detail = one_line(node.detail, 300) if node.detail else ""
        if (name, detail) != (node.name, node.detail):
            node = replace(node, name=name, detail=detail)  # noqa: PLW2901
        by_name.setdefault(name, node)
    return list(by_name.values())


def _key_of(seen: Sequence[SeenNode], *, listed: bool, source: str, silence: Silence) -> str:
    """Return what identifies the nodes of a minute, and which say whether they are ready."""
    parts = [f"{listed} {source} {silence}"]
    parts += sorted(f"{node.name} {node.ready is not None}" for node in seen)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _up_to_date(row: ClusterNode, stock: Stock | None) -> ClusterNode:
    """Return a row with when its node was seen last, which is not written while nothing changes."""
    if stock is not None and row.last_seen_at >= stock.written_at and row.removed_at is None:
        row.last_seen_at = max(row.last_seen_at, stock.seen_until)
    return row


def _rows_of(cluster: Cluster, stock: Stock | None) -> list[ClusterNode]:
    """Return the rows of a cluster, and write when its nodes were seen last if that is behind."""
    rows = list(ClusterNode.objects.filter(cluster=cluster))
    if stock is None or stock.written_at == stock.seen_until:
        return rows
    behind = ClusterNode.objects.filter(
        cluster=cluster, last_seen_at__gte=stock.written_at, last_seen_at__lt=stock.seen_until,
        removed_at=None,
    )  # fmt: skip
    behind.update(last_seen_at=stock.seen_until)
    return [_up_to_date(row, stock) for row in rows]


def _is_missing(row: ClusterNode, as_of: datetime) -> bool:
    if _is_dismissed(row):
        return False
    return as_of - (row.absent_since or as_of) <= timedelta(seconds=MISSING_SECONDS)


def _note_absence(absent: Sequence[ClusterNode], as_of: datetime) -> None:
    """Write down from when on others sent without a node."""
    new = [row for row in absent if row.absent_since is None]
    for row in new:
        row.absent_since = as_of
    if new:
        pks = [row.pk for row in new]
        ClusterNode.objects.filter(pk__in=pks).update(absent_since=as_of)


def _record(
    cluster: Cluster,
    seen: Sequence[SeenNode],
    known: dict[str, ClusterNode],
    as_of: datetime,
    source: str,
) -> None:
    """Write down when the nodes were seen, and add new ones to ``known``."""
    rows = ClusterNode.objects
    present = [known[node.name] for node in seen if node.name in known]
    rows.filter(pk__in=[row.pk for row in present]).update(
        last_seen_at=as_of, absent_since=None, removed_at=None, listed_by=source[:30]
    )
    said = {node.name for node in seen if node.ready is not None}
    first = [row for row in present if row.name in said and not row.says_ready]
    for row in first:
        row.says_ready = True
    if first:
        rows.filter(pk__in=[row.pk for row in first]).update(says_ready=True)
    new = [node for node in seen if node.name not in known]
    if new:
        _make_room(known, len(new), as_of)
        made = [
            ClusterNode(
                cluster=cluster, name=node.name, first_seen_at=as_of, last_seen_at=as_of,
                listed_by=source[:30], says_ready=node.ready is not None,
            )
            for node in new[: max(0, MAX_NODES - len(known))]
        ]  # fmt: skip
        known |= {row.name: row for row in rows.bulk_create(made)}


def _make_room(known: dict[str, ClusterNode], wanted: int, as_of: datetime) -> None:
    """Forget nodes that have long been absent, the oldest first, if there is no room for more."""
    excess = len(known) + wanted - MAX_NODES
    if excess <= 0:
        return
    long_ago = as_of - timedelta(seconds=MISSING_SECONDS)
    old = sorted(
        (row for row in known.values() if row.last_seen_at < long_ago),
        key=lambda row: row.last_seen_at,
    )[:excess]
    ClusterNode.objects.filter(pk__in=[row.pk for row in old]).delete()
    for row in old:
        del known[row.name]
