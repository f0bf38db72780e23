"""Reads: the clusters as lists and details show them, each judged at the moment of reading.

Pages and API use the same functions, so that their counts agree. Every function takes a queryset
that came from :func:`clusters.access.visible_clusters` or a cluster from
:func:`clusters.access.get_cluster`; none asks who the user is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, cast
from uuid import UUID

from django.conf import settings
from django.db.models import QuerySet

from clusters.conditions import conditions_of
from clusters.health import (
    WORST_FIRST,
    Facts,
    Finding,
    Health,
    State,
    TunnelState,
    judge,
    tunnel_state,
)
from clusters.health_json import findings_of
from clusters.models import Cluster, TunnelSession
from clusters.status_numbers import NUMBERS, StatusNumbers, known_numbers
from opscenter.core.ages import age_seconds
from opscenter.core.write_checks import recent_recording_problem, recording_problem

_RANK = {state: rank for rank, state in enumerate(WORST_FIRST)}
_LONG_AGO = datetime.min.replace(tzinfo=UTC)

_CLUSTER_COLUMNS = (
    "id", "name", "labels", "customer_id", "status", "simulated", "agent_version", "kind",
    "conflict_at", "conflict_detail", "created_at", "enrolled_at",
)  # fmt: skip
_STATUS_COLUMNS = (
    "state", "since", "was", "reason", "findings", "tunnel_up", "tunnel_since", "tunnel_seen_at",
    "tunnel_reason", "tunnel_rtt_ms", "last_pull_at", "last_pull_ok_at", "pull_error_code",
    "pull_error", "pull_failures", "clock_skew_ms", "settle_seconds", "collector_error",
    "conditions", "data_as_of", *NUMBERS,
)  # fmt: skip
_PATHS = ("customer__name", *_CLUSTER_COLUMNS, *(f"current__{name}" for name in _STATUS_COLUMNS))
_NAMES = ("customer", *_CLUSTER_COLUMNS, *_STATUS_COLUMNS)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterOverview(StatusNumbers):
    """One cluster as lists show it: its numbers, and what they describe."""

    id: UUID
    name: str
    labels: Mapping[str, str]
    customer: str  # its name, "" for none
    customer_id: UUID | None
    status: str  # of the enrolment: pending, active, revoked
    simulated: bool
    kind: str  # "host", "kubernetes", "" not known yet
    agent_version: str
    created_at: datetime
    enrolled_at: datetime | None
    health: Health
    data_as_of: datetime | None
    data_age_seconds: float | None
    tunnel: TunnelState
    tunnel_since: datetime | None
    tunnel_seen_at: datetime | None
    tunnel_reason: str
    tunnel_rtt_ms: float | None
    last_pull_at: datetime | None
    last_pull_ok_at: datetime | None
    pull_error_code: str
    pull_error: str
    pull_failures: int
    clock_skew_ms: int | None
    settle_seconds: int  # until a minute is complete at the source
    collector_error: str  # why the source sees nothing of its cluster
    conflict_at: datetime | None
    conflict_detail: str

    @property
    def reporting(self) -> bool:
        """Return whether its numbers are current: the state is based on fresh data."""
        return self.health.state in ("ok", "degraded", "critical")

    def finding(self, key: str) -> Finding | None:
        """Return what health found under a key, such as ``node:n3``; None if nothing."""
        return next((one for one in self.health.findings if one.key == key), None)

    @property
    def nodes_lost(self) -> int:
        """Return how many nodes are not ready, or missing, as far as is known."""
        fine = (self.nodes_ready or 0) + (self.nodes_unknown or 0)
        return max(0, (self.nodes_total or 0) - fine)

    @property
    def stale_seconds(self) -> int:
        """Return the age from which its data looks old: two pulls plus the delay of its source."""
        return 2 * settings.PULL_INTERVAL_SECONDS + 60 + self.settle_seconds

    @property
    def cpu_ratio(self) -> float | None:
        """Return the CPU used as a share of the capacity."""
        return _ratio(self.cpu_mc, self.cpu_cap_mc) if self.cpu_share is None else self.cpu_share

    @property
    def mem_ratio(self) -> float | None:
        """Return the memory working set as a share of the capacity."""
        return _ratio(self.mem_ws, self.mem_cap) if self.mem_share is None else self.mem_share


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetTotals:
    """Sums over the clusters that report; ``states`` counts all of them.

    A cluster that does not report is not summed, so a total is always of ``reporting`` clusters.
    """

    clusters: int
    reporting: int
    expected: int  # those that should report: enrolled and not revoked
    states: Mapping[State, int]  # every state, also with 0, worst first
    nodes_ready: int
    nodes_unknown: int  # of which it is not known whether they are ready
    nodes_total: int
    pods: int
    simulated: int
    oldest_data_as_of: datetime | None  # of the clusters that report
    as_of: datetime


@dataclass(frozen=True, slots=True)
class FleetFilter:
    """What a list is narrowed to. All parts must match; of ``states``, any one.

    Attributes:
        q: words that must all occur in the name, the customer or a label; case does not matter.
        states: health states, empty for all.
        labels: (key, value) pairs; an empty value asks only for the key.
        customer: the name of a customer, exactly; "" for all.
    """

    q: str = ""
    states: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    customer: str = ""

    @classmethod
    def from_query(cls, query: Mapping[str, Any]) -> FleetFilter:
        """Read ``q``, ``state``, ``label`` (``key`` or ``key=value``) and ``customer``.

        Args:
            query: a QueryDict; ``state`` and ``label`` may repeat or hold a comma list.
        """
        labels = [part.partition("=") for part in _listed(query, "label")]
        return cls(
            q=str(query.get("q") or "").strip(),
            states=tuple(_listed(query, "state")),
            labels=tuple((key.strip(), value.strip()) for key, _, value in labels),
            customer=str(query.get("customer") or "").strip(),
        )

    def accepts(self, overview: ClusterOverview) -> bool:
        """Return whether the cluster belongs on the list."""
        if self.states and overview.health.state not in self.states:
            return False
        if self.customer and overview.customer != self.customer:
            return False
        for key, value in self.labels:
            if key not in overview.labels or (value and overview.labels[key] != value):
                return False
        if not self.q:
            return True
        text = _searchable(overview)
        return all(word in text for word in self.q.casefold().split())


def cluster_overviews(queryset: QuerySet[Cluster], now: datetime) -> list[ClusterOverview]:
    """Return the clusters worst first: by state, by how much is lost, then by since. One query."""
    rows = queryset.order_by().values_list(*_PATHS)
    centre = _Centre()
    return sort_worst_first(
        _overview(dict(zip(_NAMES, row, strict=True)), now, centre) for row in rows
    )


def cluster_overview(cluster: Cluster, now: datetime) -> ClusterOverview:
    """Return one cluster as lists show it. One query."""
    return cluster_overviews(Cluster.objects.filter(pk=cluster.pk), now)[0]


def sort_worst_first(overviews: Iterable[ClusterOverview]) -> list[ClusterOverview]:
    """Return the clusters in the order of every list."""
    return sorted(
        overviews,
        key=lambda o: (
            _RANK[o.health.state],
            -o.health.lost,
            -_missing(o),
            o.health.since or _LONG_AGO,
            o.name,
        ),
    )


def filter_overviews(
    overviews: Iterable[ClusterOverview], wanted: FleetFilter
) -> list[ClusterOverview]:
    """Return the clusters that match, in the order given."""
    return [overview for overview in overviews if wanted.accepts(overview)]


def fleet_totals(overviews: Sequence[ClusterOverview], now: datetime | None = None) -> FleetTotals:
    """Return counts per state and sums over the clusters that report."""
    counted = Counter(overview.health.state for overview in overviews)
    reporting = [overview for overview in overviews if overview.reporting]

    def total(name: str) -> int:
        return sum(getattr(overview, name) or 0 for overview in reporting)

    return FleetTotals(
        clusters=len(overviews),
        reporting=len(reporting),
        expected=sum(overview.status == Cluster.Status.ACTIVE for overview in overviews),
        states={state: counted[state] for state in WORST_FIRST},
        nodes_ready=total("nodes_ready"),
        nodes_unknown=total("nodes_unknown"),
        nodes_total=total("nodes_total"),
        pods=total("pods"),
        simulated=sum(overview.simulated for overview in overviews),
        oldest_data_as_of=min(
            (o.data_as_of for o in reporting if o.data_as_of is not None), default=None
        ),
        as_of=now or datetime.now(UTC),
    )


def judged(cluster: Cluster, now: datetime) -> tuple[Facts, Health]:
    """Return the facts of a cluster whose ``current`` is loaded, and its health at ``now``."""
    row: dict[str, Any] = {name: getattr(cluster, name) for name in _CLUSTER_COLUMNS}
    current = getattr(cluster, "current", None)
    row |= {name: getattr(current, name, None) for name in _STATUS_COLUMNS}
    facts = _facts(row, known_numbers(row))
    return facts, _judge(facts, _recorded(row), now, _Centre(recent_recording_problem))


def tunnel_sessions(cluster: Cluster) -> QuerySet[TunnelSession]:
    """Return the cluster's tunnels, newest first, ended ones included."""
    return TunnelSession.objects.filter(cluster=cluster).order_by("-connected_at", "id")


def label_values(overviews: Iterable[ClusterOverview]) -> dict[str, list[str]]:
    """Return every label key in use with its values, both sorted: the choices of a filter."""
    found: dict[str, set[str]] = {}
    for overview in overviews:
        for key, value in overview.labels.items():
            found.setdefault(key, set()).add(value)
    return {key: sorted(found[key]) for key in sorted(found)}


class _Centre:
    """Whether Ops Center itself is to blame that nothing newer is known; asked once, if at all."""

    def __init__(self, asked: Callable[[], str] = recording_problem) -> None:
        self._asked = asked

    @cached_property
    def problem(self) -> str:
        return self._asked()


def _judge(facts: Facts, recorded: Health, now: datetime, centre: _Centre) -> Health:
    """Judge; of a cluster of which nothing new is known, say so if the fault is our own."""
    health = judge(facts, recorded, now)
    if not health.findings:
        return health
    silent = any(one.key in ("tunnel", "data") for one in health.findings)
    if silent and centre.problem:
        return judge(replace(facts, centre_problem=centre.problem), recorded, now)
    return health


def _overview(row: dict[str, Any], now: datetime, centre: _Centre) -> ClusterOverview:
    numbers = known_numbers(row)
    facts = _facts(row, numbers)
    health = _judge(facts, _recorded(row), now, centre)
    for name in ("state", "since", "was", "reason", "findings", "tunnel_up", "conditions"):
        del row[name]
    for name in ("customer", "tunnel_reason", "pull_error_code", "pull_error", "collector_error"):
        row[name] = row[name] or ""
    row["pull_failures"] = row["pull_failures"] or 0
    row["settle_seconds"] = row["settle_seconds"] or 0
    row |= numbers
    return ClusterOverview(
        **row,
        health=health,
        tunnel=tunnel_state(facts, now),
        data_age_seconds=age_seconds(row["data_as_of"], now),
    )


def _missing(overview: ClusterOverview) -> int:
    """Return how many nodes are lost, of a cluster that reports."""
    if overview.health.state not in ("critical", "degraded"):
        return 0
    return overview.nodes_lost


def _facts(row: Mapping[str, Any], numbers: Mapping[str, Any]) -> Facts:
    """Return the facts that the health function needs from a row and its known numbers."""
    return Facts(
        status=row["status"],
        interval_seconds=settings.PULL_INTERVAL_SECONDS,
        enrolled_at=row["enrolled_at"],
        tunnel_up=bool(row["tunnel_up"]),
        tunnel_since=row["tunnel_since"],
        tunnel_seen_at=row["tunnel_seen_at"],
        tunnel_reason=row["tunnel_reason"] or "",
        data_as_of=row["data_as_of"],
        last_pull_at=row["last_pull_at"],
        pull_error=row["pull_error"] or "",
        collector_error=row["collector_error"] or "",
        clock_skew_ms=row["clock_skew_ms"],
        settle_seconds=row["settle_seconds"] or 0,
        conflict_at=row["conflict_at"],
        conflict_detail=row["conflict_detail"] or "",
        conditions=conditions_of(row["conditions"]),
        **numbers,
    )


def _recorded(row: Mapping[str, Any]) -> Health:
    """Return the last recorded health of a row; pending for a cluster without a status."""
    state = row["state"] if row["state"] in _RANK else "pending"
    return Health(
        cast("State", state),
        row["since"],
        row["was"] or "",
        row["reason"] or "",
        findings_of(row["findings"]),
    )


def _listed(query: Mapping[str, Any], name: str) -> list[str]:
    """Return a repeated or comma-separated parameter as its non-empty parts."""
    getlist = getattr(query, "getlist", None)
    values = getlist(name) if getlist else [query.get(name) or ""]
    return [part.strip() for value in values for part in str(value).split(",") if part.strip()]


def _searchable(overview: ClusterOverview) -> str:
    labels = (f"{key}={value}" for key, value in overview.labels.items())
    return "\n".join((overview.name, overview.customer, *labels)).casefold()


def _ratio(part: int | None, whole: int | None) -> float | None:
    return None if part is None or not whole else part / whole
