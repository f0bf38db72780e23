"""The probe of an InfluxDB 1.x, for the form that adds it."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from metrics.series.catalog import CATALOG, Kind
from metrics.series.rows import MinuteRow
from metrics.series.windows import MINUTE
from metrics.sources.base import FieldProbe, Probe
from metrics.sources.influxdb1.client import InfluxApi, StoredPolicy
from metrics.sources.influxdb1.fetch import Fetch
from metrics.sources.influxdb1.queries import MINUTES, RAW, ROLLUPS, SAMPLES, edge
from metrics.sources.influxdb1.responses import RetentionPolicy, read_edge, read_names, read_version
from opscenter.core.errors import BadResponseError
from opscenter.core.text import minute_utc

PROBED_MINUTES = 5
_OLD_SECONDS = 600
_KINDS: tuple[Kind, ...] = ("node", "filesystem", "pod")
_WHERE = {(series.kind, series.field): series for series in (*MINUTES, *SAMPLES)}
_FROM_OTHERS = {
    "fs_used": "the sum over filesystems, and there are none",
    "fs_cap": "the sum over filesystems, and there are none",
    "inodes_total": "the sum over filesystems, and there are none",
    "inodes_free": "the sum over filesystems, and there are none",
    "pods": "the number of pods, and there are none",
    "etcd_fsync_us": "Gravity's InfluxDB does not have it: add etcd itself as a source",
    "etcd_leader_changes": "Gravity's InfluxDB does not have it: add etcd itself as a source",
}


async def probe(api: InfluxApi, now: float) -> Probe:
    """Return what the server has: its policies, and its newest minutes.

    Raises:
        ClusterError: it does not answer, refuses, or lacks the database.
    """
    stored = await api.stored_policies()
    version = await _version(api)
    # It lists the request's own database: InfluxDB 1.2 (Gravity 5.0) has no ON here.
    names = read_names((await api.ask(["SHOW MEASUREMENTS"]))[0])
    newest = read_edge((await api.ask([edge(api.database, RAW, newest=True)]))[0])
    rows: Sequence[MinuteRow] = ()
    if newest is not None:
        # The newest minute may be half written, so the ones before it are read.
        end = newest // MINUTE * MINUTE - MINUTE
        answer = await Fetch(api, end - PROBED_MINUTES * MINUTE, end, now).minutes(stored)
        rows = answer.rows
    keys = {row.key for row in rows}
    return Probe(
        product="InfluxDB",
        version=version,
        oldest=min((one.begins for one in stored), default=None),
        newest=newest,
        series={kind: sum(1 for key in keys if key.kind == kind) for kind in _KINDS},
        fields=_fields(rows, names),
        notes=_notes(api.policies, stored, newest, api.clock(now)),
    )


async def _version(api: InfluxApi) -> str:
    """Return the server's version; "" if the user is not an administrator."""
    try:
        return read_version((await api.ask(["SHOW DIAGNOSTICS"]))[0])
    except BadResponseError as exc:
        if exc.problem != "forbidden":
            raise
        return ""


def _fields(rows: Sequence[MinuteRow], names: Collection[str]) -> list[FieldProbe]:
    probes = []
    for kind in _KINDS:
        of_kind = [row for row in rows if row.key.kind == kind]
        for position, field in enumerate(CATALOG[kind]):
            having = {row.key for row in of_kind if row.cells[position] is not None}
            why = "" if having else _why(kind, field.name, names)
            probes.append(FieldProbe(kind, field.name, len(having), why))
    return probes


def _why(kind: Kind, field: str, names: Collection[str]) -> str:
    """Return why no series of a kind has a field."""
    series = _WHERE.get((kind, field))
    if series is None:
        return _FROM_OTHERS[field]
    writer = "Heapster" if series.type else "Telegraf"
    if series.measurement not in names:
        return f"{writer} does not write {series.measurement!r} into this database"
    if not series.type:
        return f"{series.measurement!r} has no {series.column!r} of a node that Heapster knows"
    return f"{series.measurement!r} has no points of type {series.type!r} in the newest minutes"


def _notes(
    policies: Sequence[RetentionPolicy],
    stored: Sequence[StoredPolicy],
    newest: int | None,
    clock: float,
) -> list[str]:
    notes = []
    begins = {one.policy.name: one.begins for one in stored}
    for policy in policies:
        name = "" if policy.default else policy.name
        if policy.default or any(policy.name == one.name for one in ROLLUPS):
            since = f"data since {minute_utc(begins[name])}" if name in begins else "no data"
        else:
            since = "not used"
        retention = "forever" if policy.seconds is None else f"for {policy.seconds // 3600} h"
        notes.append(f"retention policy {policy.name!r} keeps data {retention}: {since}")
    if newest is None:
        notes.append("Heapster has written no node data into this database")
    elif newest < clock - _OLD_SECONDS:
        notes.append(f"the newest data is from {minute_utc(newest)}: Heapster no longer writes")
    return notes
