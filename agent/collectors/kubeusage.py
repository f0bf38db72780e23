"""Which entries of the kubelets' summaries are a pod's, and their CPU, memory and network.

Source of the fields: Kubernetes' ``stats/v1alpha1`` types; all of them are optional.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from agent.collectors.base import RATE_MAX_SECONDS, Rates
from agent.collectors.kubefields import child, children, number, text, timestamp, total
from agent.collectors.kubeobjects import KubePod
from agent.own_parts import own_interfaces

Stats = Mapping[str, Any]
Key = tuple[str, ...]

_ABOVE_CAPACITY = 1.25
"""A counter and its time are not read at one moment; a rate further above capacity is an error."""
_MOST_MILLICORES = 1e7
"""Capacity of a node that does not say its own: 10,000 CPUs."""


class PodEntries:
    """The pods of all summaries, told apart by their uid and their start."""

    def __init__(self, summaries: Mapping[str, Stats]) -> None:
        self._entries: dict[tuple[str, str], list[tuple[str, Stats]]] = {}
        for node, summary in summaries.items():
            for stats in children(summary, "pods"):
                ns, name = text(stats, "podRef", "namespace"), text(stats, "podRef", "name")
                if name:
                    self._entries.setdefault((ns, name), []).append((node, stats))

    def of(self, pod: KubePod) -> Stats:
        """Return what the pod's kubelet measured of it; empty if nothing.

        A kubelet goes on for a while to list a pod that was made anew under its name. An entry
        without uid is taken for the pod's, and so is any where the pod's is not known.
        """
        known = {"", pod.uid, pod.kubelet_uid} if pod.kubelet_uid else None
        found = [
            stats
            for node, stats in self._entries.get((pod.ns, pod.name), ())
            if node == pod.node and (known is None or text(stats, "podRef", "uid") in known)
        ]
        return max(found, key=_started, default={})

    def newest(self) -> Iterator[tuple[str, Stats]]:
        """Yield node and entry of each pod's name, of several the one that started last."""
        for entries in self._entries.values():
            yield max(entries, key=lambda entry: _started(entry[1]))


class Usage:
    """CPU and network from the counters of one collection after the other.

    A counter and its own time are believed before a rate that the kubelet worked out: that one is
    an average over seconds which are not the interval's, it is 0 where the container runtime does
    not offer it, and nonsense where a container has just started.
    """

    def __init__(self) -> None:
        self._rates = Rates()
        self._now = 0.0
        self._read_at: dict[Key, float] = {}

    def start(self, now: float) -> None:
        """Begin a collection at Unix time ``now``; forget counters that are too old for a rate."""
        self._now = now
        self._read_at = {
            key: at for key, at in self._read_at.items() if now - at <= RATE_MAX_SECONDS
        }
        self._rates.keep_only(self._read_at)

    def cpu(self, key: Key, stats: Any, capacity_mc: float | None) -> float | None:
        """Return millicores, of the node or pod or of its containers; None if not known.

        Nothing uses more than ``capacity_mc``, the millicores of the node.
        """
        value = self._cpu_of(key, stats, capacity_mc)
        if not value:
            # Some runtimes leave a pod's own counter at 0, or have only those of containers.
            parts = containers(stats)
            counted = total(
                self._cpu_of((*key, text(part, "name")), part, capacity_mc) for part in parts
            )
            value = counted or value
        return None if value is None else min(value, capacity_mc or _MOST_MILLICORES)

    def network(self, key: Key, network: Any) -> dict[str, float | None]:
        """Return both rates, of all real interfaces; where none is listed, of the default one.

        The default one is that called eth0, which may be one card of several. A rate is None if
        one of several interfaces was reset: the others are not the whole.
        """
        at = timestamp(child(network, "time")) or self._now
        interfaces = children(network, "interfaces")
        own = own_interfaces(text(interface, "name") for interface in interfaces)
        parts = [one for one in interfaces if text(one, "name") in own] or [network]
        found: dict[str, float | None] = {}
        for field, counter in (("net_rx_bps", "rxBytes"), ("net_tx_bps", "txBytes")):
            keys = [(*key, counter, text(part, "name")) for part in parts]
            known = [self._rates.seen(one) for one in keys]
            rates = [
                self._rate(one, number(part, counter), at)
                for one, part in zip(keys, parts, strict=True)
            ]
            was_reset = any(rate is None and seen for rate, seen in zip(rates, known, strict=True))
            found[field] = None if was_reset else total(rates)
        return found

    def _cpu_of(self, key: Key, stats: Any, capacity_mc: float | None) -> float | None:
        """Return millicores by the counter; at its first reading, or without one, by the rate.

        A 0 of one beside more of the other says only that it is not offered.
        """
        cpu = child(stats, "cpu")
        counter, rate = number(cpu, "usageCoreNanoSeconds"), number(cpu, "usageNanoCores")
        key = (*key, "cpu")
        known = self._rates.seen(key)
        used = self._rate(key, counter, timestamp(child(cpu, "time")) or self._now)
        if counter is None:
            used = rate
        elif not known or used == 0:
            used = rate or used
        most = (capacity_mc or _MOST_MILLICORES) * _ABOVE_CAPACITY
        return used / 1e6 if used is not None and 0 <= used / 1e6 <= most else None

    def _rate(self, key: Key, value: float | None, at: float) -> float | None:
        self._read_at[key] = self._now
        return self._rates.rate(key, value, at)


def containers(stats: Stats) -> list[Stats]:
    """Return a pod's containers; of several of one name the one that started last."""
    newest: dict[str, Stats] = {}
    for one in children(stats, "containers"):
        name = text(one, "name")
        if name not in newest or _started(one) >= _started(newest[name]):
            newest[name] = one
    return list(newest.values())


def memory(stats: Stats, name: str, capacity: float | None) -> float | None:
    """Return a memory figure of a pod or node; None for 0: what runs has memory.

    Kubelets before 1.9 report it by container only. No figure above ``capacity``, the bytes of the
    node, is believed.
    """
    limit = capacity or float("inf")
    found = number(stats, "memory", name)
    if not found:
        parts = (number(part, "memory", name) for part in containers(stats))
        found = total(part for part in parts if part and 0 < part <= limit)
    return found if found and 0 < found <= limit else None


def disk_use(stats: Stats) -> float | None:
    """Return the bytes that a pod has on its node's disks, without volumes; None if not known."""
    found = number(stats, "ephemeral-storage", "usedBytes")
    if found is not None:
        return found
    parts = (
        number(part, place, "usedBytes")
        for part in containers(stats)
        for place in ("rootfs", "logs")
    )
    return total(part for part in parts if part is None or part >= 0)


def shares_network(stats: Stats, node: Any) -> bool:
    """Return whether a pod seems to be on its node's network: it has the node's interfaces."""
    here, there = (
        {text(one, "name") for one in children(network, "interfaces")}
        for network in (child(stats, "network"), child(node, "network"))
    )
    return here == there


def _started(stats: Stats) -> float:
    return timestamp(child(stats, "startTime")) or 0.0
