"""Metric names and labels of series, from the catalogue. Pure.

A metric is ``opscenter_<kind>_<field>``, the mean of each bucket; with ``_min`` and ``_max`` its
lowest and highest sample.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from metrics.series.catalog import CATALOG, Kind, Unit
from metrics.series.rows import SeriesKey

Statistic = Literal["mean", "min", "max"]

PREFIX = "opscenter_"
CLUSTER_LABELS = ("cluster", "cluster_name", "customer")
KIND_LABELS: dict[Kind, tuple[str, ...]] = {
    "cluster": (),
    "node": ("node",),
    "filesystem": ("node", "mountpoint"),
    "pod": ("namespace", "pod", "node"),
}
_SUFFIXES: dict[Statistic, str] = {"mean": "", "min": "_min", "max": "_max"}
_WORDS = {"mean": "mean of each bucket", "min": "lowest sample", "max": "highest sample"}


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric and its meaning."""

    name: str
    kind: Kind
    field: str
    statistic: Statistic
    unit: Unit
    help: str


def _all() -> Iterator[Metric]:
    for kind, fields in CATALOG.items():
        for field in fields:
            for statistic, suffix in _SUFFIXES.items():
                yield Metric(
                    f"{PREFIX}{kind}_{field.name}{suffix}", kind, field.name, statistic,
                    field.unit, f"{field.title} of a {kind}, {_WORDS[statistic]}, in {field.unit}.",
                )  # fmt: skip


METRICS: Mapping[str, Metric] = {metric.name: metric for metric in _all()}
LABEL_NAMES = (
    "__name__",
    *sorted({*CLUSTER_LABELS, *(label for labels in KIND_LABELS.values() for label in labels)}),
)


def labels_of(key: SeriesKey, node: str) -> dict[str, str]:
    """Return the labels of a series within its cluster; empty ones are left out.

    ``node`` is where a pod was last seen: an older value may come from another node.
    """
    if key.kind == "node":
        return {"node": key.name}
    if key.kind == "filesystem":
        return {"node": key.ns, "mountpoint": key.name}
    if key.kind == "pod":
        named = {"namespace": key.ns, "pod": key.name}
        return {**named, "node": node} if node else named
    return {}
