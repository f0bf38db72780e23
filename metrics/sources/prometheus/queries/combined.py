"""All queries, and one expression that answers several of them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from string import ascii_letters, digits

from metrics.sources.prometheus.queries.nodes import filesystem_queries, node_queries
from metrics.sources.prometheus.queries.parts import NODE, TARGET, UP, Query, either, tagged
from metrics.sources.prometheus.queries.pods import pod_queries

_JOBS_LENGTH = 600  # characters of a query that name jobs
_PLAIN = frozenset(ascii_letters + digits + "_-:/ ")  # in a regular expression too

QUERIES: tuple[Query, ...] = (*node_queries(), *filesystem_queries(), *pod_queries())

# Count of scraped targets; 0 where there were some within ten minutes, but not within this one.
# 65 s, so that one scrape a minute that is a little late still counts.
UP_EXPR = "(count(count_over_time(up[65s])) or 0*count(count_over_time(up[10m])))"


def joined(numbers: Sequence[int], targets: str = "") -> str:
    """Return one expression that answers several of :data:`QUERIES`, and whether anything was up.

    Args:
        numbers: indexes into :data:`QUERIES`; each becomes the value of the label :data:`TAG`.
        targets: result of :func:`targets_expr`, to ask for that too; "" to omit it.
    """
    return either(
        [
            tagged(UP_EXPR, UP),
            *([tagged(targets, TARGET)] if targets else []),
            *(tagged(QUERIES[number].expr, str(number)) for number in numbers),
        ]
    )


def targets_expr(jobs: Iterable[str]) -> str:
    """Return the expression for ``up`` of machines: those of some jobs, and all that answer.

    A machine that is down stays listed by its job, with 0, as long as it is configured.

    Args:
        jobs: names of the jobs of machines. Those that make the query too long are left out; of a
            name with unusual characters others match too.
    """
    patterns: list[str] = []
    for job in sorted(jobs):
        pattern = "".join(c if c in _PLAIN else "." for c in job)
        if job and sum(map(len, patterns)) + len(pattern) <= _JOBS_LENGTH:
            patterns.append(pattern)
    of_jobs = [f'up{{job=~"{"|".join(patterns)}"}}'] if patterns else []
    answering = "(up and on(instance) (node_uname_info or machine_cpu_cores))"
    return f"max by({NODE},job)({' or '.join([*of_jobs, answering])})"
