"""The queries for what a source has: its oldest and newest sample, labels, metrics. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from metrics.sources.prometheus.queries.parts import UP, either, tagged

# Metrics of which every installation has one from its first scrape on. Each has its own
# timestamp(): of an expression, it is the time of evaluation.
_SEEN_AT = "(timestamp(up) or timestamp(kube_node_info) or timestamp(node_boot_time_seconds))"


def oldest_expr(window: int, step: int) -> str:
    """Return the expression for the oldest sample of a window, checked every ``step`` seconds."""
    return f"min(min_over_time({_SEEN_AT}[{window}s:{step}s]))"


def newest_expr(window: int, step: int) -> str:
    """Return the expression for the newest sample of a window; at most ``step`` seconds too old."""
    return f"max(max_over_time({_SEEN_AT}[{window}s:{step}s]))"


def layout_expr() -> str:
    """Return the expression for the labels and replicas that a probe reports, one tag each."""
    container = "container_memory_working_set_bytes"
    return either(
        [
            tagged("count(up)", UP),
            tagged(f'count({container}{{pod!=""}})', "pod"),
            tagged(f'count({container}{{pod_name!=""}})', "pod_name"),
            tagged("count(kube_node_status_capacity_cpu_cores)", "ksm1"),
            *(
                tagged(f'count(count by({label})(up{{{label}!=""}}))', label)
                for label in ("prometheus_replica", "replica")
            ),
        ]
    )


def names_expr(names: Iterable[str]) -> str:
    """Return the expression that counts the series of each of these metrics."""
    return f'count by(__name__)({{__name__=~"{"|".join(sorted(set(names)))}"}})'
