"""Reads about a cluster's source, for pages and the API. Callers check permission."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from clusters.models import Cluster
from metrics.connections.probe import Report, offered_services, report_of, title_of
from metrics.connections.refused_values import RefusedValues, refused_values
from metrics.models import MetricSource, PullSchedule
from metrics.series.windows import STREAM
from metrics.sources.kinds import KINDS


@dataclass(frozen=True, slots=True)
class SourceView:
    """One source of a cluster, without secrets; the agent's own has no row.

    Attributes:
        kind: the source's kind.
        title: the kind's name for display.
        offered: whether the agent offers its service now.
        error: the error of the last read; "" if it succeeded.
        error_code: the stable code of the error.
        report: the report of the last good test; None before the first.
    """

    role: str
    kind: str
    title: str
    service: str
    scheme: str
    settings: dict[str, str]
    secrets_set: list[str]
    offered: bool
    error: str = ""
    error_code: str = ""
    added_by: str = ""
    added_at: datetime | None = None
    changed_by: str = ""
    changed_at: datetime | None = None
    tested_at: datetime | None = None
    report: Report | None = None

    @property
    def error_title(self) -> str:
        """Return the error in a few words."""
        return title_of(self.error_code) if self.error else ""


@dataclass(frozen=True, slots=True)
class Sourcing:
    """The sources of a cluster's data, and their problems."""

    main: SourceView
    etcd: SourceView | None
    offered: list[str]
    since: int  # first minute of the main source in Unix seconds; 0: all of them
    rejected_rows: int
    rejected_at: datetime | None
    rejected_detail: str
    refused_values: RefusedValues
    notes: list[str]


def sourcing_of(cluster: Cluster, *, with_offered: bool = True) -> Sourcing:
    """Return the sources of a cluster's data. 3 queries.

    Args:
        cluster: the cluster.
        with_offered: whether to look up what the agent offers now; one query.
    """
    offered = offered_services(cluster) if with_offered else []
    rows = {row.role: row for row in MetricSource.objects.filter(cluster=cluster)}
    schedule = PullSchedule.objects.filter(cluster=cluster, stream=STREAM).first()
    row = rows.get("main")
    etcd = rows.get("etcd")
    main = _agent(offered) if row is None else _view(row, offered)
    status = cluster.current
    return Sourcing(
        main=replace(main, error=status.pull_error, error_code=status.pull_error_code),
        etcd=None if etcd is None else _view(etcd, offered),
        offered=offered,
        since=schedule.source_since if schedule else 0,
        rejected_rows=schedule.rejected_rows if schedule else 0,
        rejected_at=schedule.rejected_at if schedule else None,
        rejected_detail=schedule.rejected_detail if schedule else "",
        refused_values=refused_values(schedule.refused_values if schedule else {}),
        notes=schedule.notes if schedule else [],
    )


def _agent(offered: list[str]) -> SourceView:
    return SourceView(
        "main", "agent", "The agent's own collectors", "agent", "http", {}, [],
        offered="agent" in offered,
    )  # fmt: skip


def _view(row: MetricSource, offered: list[str]) -> SourceView:
    settings: dict[str, Any] = row.settings
    return SourceView(
        role=row.role,
        kind=row.kind,
        title=KINDS[row.kind].title if row.kind in KINDS else row.kind,
        service=row.service,
        scheme=row.scheme,
        settings=dict(settings),
        secrets_set=list(row.secret_names),
        offered=row.service in offered,
        error=row.error,
        error_code=row.error_code,
        added_by=row.added_by,
        added_at=row.added_at,
        changed_by=row.changed_by,
        changed_at=row.changed_at,
        tested_at=row.probed_at,
        report=report_of(row.probe),
    )
