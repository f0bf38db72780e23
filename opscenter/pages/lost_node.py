"""What is known of a node that is lost: since when, its last values, what ran there, where it is.

A node is lost if it is not ready, or not in the cluster's newest minute. Everything comes from what
is stored, in at most four reads.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, replace

from clusters.models import Cluster
from metrics import query
from metrics.query import SeriesKey, SeriesNow
from metrics.series.windows import DAY, MINUTE

DAYS_BACK = 90
"""How far back a last good minute is looked for."""

PODS_DAYS = 7
"""Of a node that was lost earlier, the pods are not listed: all newer ones had to be read."""

ENDING_SECONDS = 120
"""A pod ran on the node until the end if it was measured there this shortly before."""

BEFORE_SECONDS = 600
"""A pod that was measured this shortly before the node was lost did not replace one of its pods."""

SHOWN_PODS = 100

SHOWN_FIELDS = ("cpu_mc", "cpu_cap_mc", "mem_ws", "mem_cap", "load1_m", "uptime_s", "pods")


@dataclass(frozen=True, slots=True)
class LostPod:
    """A pod that ran on the node: gone, not known, still listed there, or replaced by ``now``.

    Attributes:
        pod: the pod as last measured.
        now: what runs in its place, or the pod itself; None for neither.
        is_gone: whether it is proven that it does not run any more. A pod of which nobody sends
            numbers may still run on a node that nobody reaches.
    """

    pod: SeriesNow
    now: SeriesNow | None = None
    is_gone: bool = False

    @property
    def is_unknown(self) -> bool:
        """Return whether it may still run there."""
        return self.now is None and not self.is_gone


@dataclass(frozen=True, slots=True)
class LostNode:
    """What is known of a lost node. Times are Unix seconds.

    Attributes:
        since: start of the first minute without the node ready; None if it is not known.
        at_least: whether it may be longer: no good minute is stored, or only wider buckets are.
        values: its last values by field; a field that was not measured then is missing.
        values_at: end of the minute that they are of; None without any.
        pods: those that can be named, first those that run nowhere; None if not looked for.
    """

    since: int | None
    at_least: bool
    values: Mapping[str, float]
    values_at: int | None
    pods: tuple[LostPod, ...] | None = None

    @property
    def shown(self) -> tuple[LostPod, ...]:
        """Return the pods that the page lists."""
        return (self.pods or ())[:SHOWN_PODS]

    @property
    def left_out(self) -> int:
        """Return how many pods the page does not list."""
        return len(self.pods or ()) - len(self.shown)

    @property
    def gone(self) -> int:
        """Return how many pods run nowhere now."""
        return sum(one.is_gone for one in self.pods or ())

    @property
    def listed(self) -> int:
        """Return how many pods the cluster still lists on the node."""
        return sum(one.now is one.pod for one in self.pods or ())

    @property
    def elsewhere(self) -> int:
        """Return how many pods run elsewhere now, mostly under another name."""
        return len(self.pods or ()) - self.gone - self.listed - self.unknown

    @property
    def unknown(self) -> int:
        """Return of how many pods it is not known whether they still run."""
        return sum(one.is_unknown for one in self.pods or ())

    @property
    def unnamed(self) -> int:
        """Return how many more pods the node counted: those that moved under their own name."""
        return max(0, int(self.values.get("pods", 0)) - len(self.pods or ()))


def is_listed(pod: SeriesNow) -> bool:
    """Return whether the cluster's own list of pods named it, not only what measures it."""
    return bool(pod.attrs.get("status") or pod.attrs.get("phase"))


def is_lost(node: SeriesNow) -> bool:
    """Return whether a node is not ready, or not in the cluster's newest minute."""
    return not node.present or node.ready is False


def lost_node(cluster: Cluster, node: SeriesNow, now: int, *, is_removed: bool = False) -> LostNode:
    """Return what is known of a node that is lost.

    Args:
        cluster: the cluster, visible to the user.
        node: the node, of which :func:`is_lost` holds.
        now: current Unix time in seconds.
        is_removed: whether it is proven that the node is no more, and so nothing runs on it.

    Raises:
        MetricsUnavailableError: the store cannot be read.
    """
    found = _history(cluster, node, DAY, now)
    if found.at_least or found.values_at is None:
        earlier = _history(cluster, node, DAYS_BACK * DAY, now)
        found = _joined(found, earlier)
    if found.since is None or found.since < now - PODS_DAYS * DAY:
        return found
    pods = _pods(cluster, node.name, found.since, now, is_removed=is_removed)
    return LostNode(found.since, found.at_least, found.values, found.values_at, pods)


def by_our_clock(lost: LostNode | None, ahead: int) -> LostNode | None:
    """Return what a page shows: with times by our clock, of a cluster's that is so far ahead."""
    if lost is None:
        return None
    return replace(
        lost,
        since=None if lost.since is None else lost.since - ahead,
        values_at=None if lost.values_at is None else lost.values_at - ahead,
    )


def _history(cluster: Cluster, node: SeriesNow, seconds: int, now: int) -> LostNode:
    """Return since when, and the last values, as far as the time before its end shows them."""
    end = node.minute_end
    answers = query.fields_query(
        cluster, SeriesKey("node", "", node.name), ("ready", *SHOWN_FIELDS),
        max(0, end - seconds), end, now=now,
    )  # fmt: skip
    ready = answers["ready"]
    since, at_least = _since(ready, node)
    measured = sorted({t for name in ("cpu_mc", "mem_ws") for t in answers[name].t})
    if not measured:
        return LostNode(since, at_least, {}, None)
    last = measured[-1]
    values = {
        name: answers[name].mean[-1]
        for name in SHOWN_FIELDS
        if answers[name].t and answers[name].t[-1] == last
    }
    return LostNode(since, at_least, values, min(last + ready.step, end))


def _since(ready: query.RangeAnswer, node: SeriesNow) -> tuple[int | None, bool]:
    """Return the first moment without the node ready, and whether it may be earlier."""
    if node.ready is not False:
        return node.minute_end, False  # it was ready, or said nothing, until it was gone
    minutes = list(zip(ready.t, ready.mean, strict=True))
    good = [t for t, mean in minutes if mean > 0]
    after = [t for t, _ in minutes if not good or t > good[-1]]
    if not after:
        return None, True
    # Somewhere in a wide bucket it was first not ready: surely by its end.
    first = after[0] if ready.step == MINUTE else after[0] + ready.step
    return first, not good or ready.step > MINUTE


def _joined(day: LostNode, earlier: LostNode) -> LostNode:
    """Return the last day's answer, with what only the longer time shows."""
    since, at_least = day.since, day.at_least
    if at_least and earlier.since is not None:
        since = earlier.since if since is None else min(since, earlier.since)
    if day.values_at is not None:
        return LostNode(since, at_least, day.values, day.values_at)
    return LostNode(since, at_least, earlier.values, earlier.values_at)


def _pods(
    cluster: Cluster, node: str, since: int, now: int, *, is_removed: bool
) -> tuple[LostPod, ...]:
    """Return the pods that ran on the node when it was lost, and what replaced each of them.

    A replacement is a pod of the same workload that runs elsewhere and was not there before, less
    those that replace pods that ended elsewhere.
    """
    newest = query.pods_since(cluster, max(0, since - ENDING_SECONDS))
    begin = max(0, since - BEFORE_SECONDS)
    cells = BEFORE_SECONDS // MINUTE
    before = {
        row.key for row in query.heat(cluster, "pod", "mem_ws", begin, since, cells, now=now).rows
    }
    fresh: dict[tuple[str, str], list[SeriesNow]] = defaultdict(list)
    ended: Counter[tuple[str, str]] = Counter()
    for pod in newest:
        if pod.node == node:
            continue
        if not pod.present:
            ended[_workload(pod)] += pod.key in before
        elif pod.key not in before:
            fresh[_workload(pod)].append(pod)
    spare = {workload: pods[ended[workload] :] for workload, pods in fresh.items()}
    is_listing = any(pod.present and is_listed(pod) for pod in newest)
    lost = [pod for pod in newest if pod.node == node]
    proven = {pod.key for pod in lost if is_removed or (is_listing and is_listed(pod))}
    return tuple(_placed(lost, spare, proven))


def _placed(
    pods: Iterable[SeriesNow],
    spare: Mapping[tuple[str, str], list[SeriesNow]],
    proven: Container[SeriesKey],
) -> list[LostPod]:
    """Pair each pod with one replacement at most; those without first, then by ns and name.

    Of ``proven`` it is known that they do not run where they ran.
    """
    found = []
    for pod in pods:
        if pod.present:
            found.append(LostPod(pod, pod))
            continue
        others = spare.get(_workload(pod)) if pod.attrs.get("workload") else None
        now = others.pop() if others else None
        found.append(LostPod(pod, now, is_gone=now is None and pod.key in proven))
    return sorted(found, key=lambda one: (one.now is not None, one.pod.ns, one.pod.name))


def _workload(pod: SeriesNow) -> tuple[str, str]:
    return pod.ns, pod.attrs.get("workload", "")
