"""Raw samples from an InfluxDB 2.x, as Telegraf wrote them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any

from metrics.series.catalog import Kind
from metrics.series.rows import SeriesKey
from metrics.sources.base import RawAnswer
from metrics.sources.bounds import Bounds
from metrics.sources.influxdb2.queries import Stream
from metrics.sources.influxdb2.responses import Columns
from opscenter.core.errors import BadResponseError, InvalidInputError


@dataclass(frozen=True, slots=True)
class Samples:
    """Where the samples of one field of the catalogue are stored.

    Attributes:
        measurement: Telegraf's measurement.
        fields: the measurement's fields, which add up.
        names: tags that name the series, in the order of its key.
        parts: a tag whose values add up (containers, interfaces); "" for none.
        scale: factor of the samples.
        counter: whether the field is a counter, so that rates between samples are returned.
    """

    measurement: str
    fields: tuple[str, ...]
    names: tuple[str, ...]
    parts: str = ""
    scale: float = 1.0
    counter: bool = False

    @property
    def stream(self) -> Stream:
        """Return the stream to query."""
        tags = (*self.names, self.parts) if self.parts else self.names
        return Stream("samples", self.measurement, self.fields, tags)


_NODE, _HOST, _POD = ("node_name",), ("host",), ("namespace", "pod_name")
_CONTAINER, _DISK = "kubernetes_pod_container", ("host", "path")
_WHERE: dict[tuple[Kind, str], Samples] = {
    ("node", "cpu_mc"): Samples("kubernetes_node", ("cpu_usage_nanocores",), _NODE, scale=1e-6),
    ("node", "mem_ws"): Samples("kubernetes_node", ("memory_working_set_bytes",), _NODE),
    ("node", "net_rx_bps"): Samples("kubernetes_node", ("network_rx_bytes",), _NODE, counter=True),
    ("node", "net_tx_bps"): Samples("kubernetes_node", ("network_tx_bytes",), _NODE, counter=True),
    ("node", "load1_m"): Samples("system", ("load1",), _HOST, scale=1000),
    ("node", "uptime_s"): Samples("system", ("uptime",), _HOST),
    ("filesystem", "used"): Samples("disk", ("used",), _DISK),
    ("filesystem", "cap"): Samples("disk", ("used", "free"), _DISK),
    ("filesystem", "inodes_total"): Samples("disk", ("inodes_total",), _DISK),
    ("filesystem", "inodes_free"): Samples("disk", ("inodes_free",), _DISK),
    ("pod", "cpu_mc"): Samples(_CONTAINER, ("cpu_usage_nanocores",), _POD, "container_name", 1e-6),
    ("pod", "mem_ws"): Samples(_CONTAINER, ("memory_working_set_bytes",), _POD, "container_name"),
    ("pod", "mem_rss"): Samples(_CONTAINER, ("memory_rss_bytes",), _POD, "container_name"),
    ("pod", "fs_used"): Samples(
        _CONTAINER, ("rootfs_used_bytes", "logsfs_used_bytes"), _POD, "container_name"
    ),
    ("pod", "net_rx_bps"): Samples("kubernetes_pod_network", ("rx_bytes",), _POD, counter=True),
    ("pod", "net_tx_bps"): Samples("kubernetes_pod_network", ("tx_bytes",), _POD, counter=True),
}


def samples_of(key: SeriesKey, field: str) -> Samples:
    """Return where a field of a series is stored.

    Raises:
        InvalidInputError: Telegraf has no such field, or only as part of another.
    """
    try:
        return _WHERE[key.kind, field]
    except KeyError:
        msg = f"field: Telegraf does not store {field} of a {key.kind} on its own"
        raise InvalidInputError(msg) from None


def raw_answer(found: Columns, samples: Samples, start: int, bounds: Bounds) -> RawAnswer:
    """Return samples in the catalogue's unit, those of one time added up, ascending.

    Args:
        found: the points, some of them before ``start`` for the first rate.
        samples: the requested field.
        bounds: what can be believed of a part; one that cannot is not added up.
        start: start of the range in Unix seconds.

    Raises:
        BadResponseError: a value is infinite or not a number.
    """
    # By part, because two Telegrafs may report the same container at one time.
    points: dict[tuple[int, Any], float] = {}
    for field in samples.fields:
        for time, tags, value in zip(found.times, found.tags, found.fields[field], strict=True):
            if value is not None:
                points[time, (field, *tags)] = value
    sums: dict[int, float] = {}
    for (time, _), value in points.items():
        scaled = value * samples.scale
        if not samples.parts or samples.counter or not bounds.why(scaled, scaled):
            sums[time] = sums.get(time, 0.0) + value
    if any(not -1e300 < value < 1e300 for value in sums.values()):
        msg = f"{samples.measurement}: a value is infinite or not a number"
        raise BadResponseError(msg, problem="bad_value")
    times = sorted(sums)
    values = [sums[time] * samples.scale for time in times]
    if samples.counter:
        times, values = _rates(times, values)
    wanted = [(time, value) for time, value in zip(times, values, strict=True) if time >= start]
    steps = [later - earlier for (earlier, _), (later, _) in pairwise(wanted)]
    step = float(median(steps)) if steps else None
    note = "rates between the samples of Telegraf" if samples.counter else "as Telegraf wrote it"
    return RawAnswer([time for time, _ in wanted], [value for _, value in wanted], step, note)


def _rates(times: Sequence[int], values: Sequence[float]) -> tuple[list[int], list[float]]:
    """Return a counter's rate per second at the later of two samples; nothing where it fell."""
    both = list(zip(times, values, strict=True))
    risen = [(t2, (v2 - v1) / (t2 - t1)) for (t1, v1), (t2, v2) in pairwise(both) if v2 >= v1]
    return [time for time, _ in risen], [rate for _, rate in risen]
