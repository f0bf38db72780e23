"""A Kubernetes cluster: its nodes and pods from the API server, their use from each kubelet.

The service account needs ``list`` on nodes and pods and ``get`` on ``nodes/proxy``. Each kubelet is
queried through the API server (``/api/v1/nodes/<node>/proxy/stats/summary``), so that one agent
serves a whole cluster and needs no route to the nodes. A node whose kubelet does not answer, or
repeats old readings, keeps its row, with the API server's facts and without use.

Source of the fields: Kubernetes' ``stats/v1alpha1`` types; all of them are optional.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

from agent.collectors.base import Collected, CollectorError
from agent.collectors.kubeapi import KubeAccess, KubeApi
from agent.collectors.kubedisks import NodeDisks
from agent.collectors.kubefields import child, number, text, timestamp
from agent.collectors.kubeobjects import KubeNode, KubePod, parse_node, parse_pod
from agent.collectors.kubestale import StaleSummaries
from agent.collectors.kubeusage import PodEntries, Usage, disk_use, memory, shares_network
from agent.collectors.podstatus import ENDED_PHASES
from agent.samples import Sample, make_sample

LIST_SECONDS = 6.0
SUMMARY_SECONDS = 6.0
"""Both together stay below the sampling interval."""
MAX_CONCURRENT = 64
MAX_NODES = 2_000
MAX_PODS = 10_000
DONE_SECONDS = 120.0
"""Seconds for which a pod that is done is still reported, so that its ending is known."""

Summaries = dict[str, dict[str, Any]]


class KubeletCollector:
    """Collects the cluster that the agent runs in.

    Args:
        access: address and credentials of the API server; None for those that every pod has.
        list_seconds: seconds that the API server may take to list all nodes and pods.
        summary_seconds: seconds that all kubelets together may take.
    """

    name = "kubelet"

    def __init__(
        self,
        access: KubeAccess | None = None,
        *,
        list_seconds: float = LIST_SECONDS,
        summary_seconds: float = SUMMARY_SECONDS,
    ) -> None:
        self._api = None if access is None else KubeApi(access)
        self._list_seconds = list_seconds
        self._summary_seconds = summary_seconds
        self._usage = Usage()
        self._disks = NodeDisks()
        self._stale = StaleSummaries()
        self._silent: set[str] = set()

    async def close(self) -> None:
        """Close all connections."""
        if self._api is not None:
            await self._api.close()

    async def collect(self, now: float) -> Collected:
        """Return the cluster's nodes, their filesystems, and its pods.

        Raises:
            CollectorError: the nodes cannot be listed; nothing is known then.
        """
        nodes, pods, problems = await self._lists()
        answers = self._fresh(await self._summaries(node.name for node in nodes), now)
        summaries = {name: found for name, found in answers.items() if isinstance(found, dict)}
        problems |= {
            name: problem for name, found in answers.items() if (problem := _problem(found))
        }
        entries = PodEntries(summaries)
        known = {node.name: node for node in nodes}
        counted: Iterable[str] = known
        if pods is None:
            pods, counted = _pods_of(entries), summaries
        self._usage.start(now)
        samples = self._node_samples(nodes, _running(counted, pods), answers, now)
        shown = sorted((pod for pod in pods if _is_shown(pod, now)), key=lambda p: (p.ns, p.name))
        if len(shown) > MAX_PODS:
            problems["number of pods"] = f"{len(shown)}; the first {MAX_PODS} are reported"
        for pod in shown[:MAX_PODS]:
            node_stats = child(summaries.get(pod.node), "node")
            samples.append(self._pod(pod, known.get(pod.node), entries.of(pod), node_stats))
        self._disks.keep_only(known)
        self._stale.keep_only(known)
        return Collected(samples, problems)

    def _ready_api(self) -> KubeApi:
        if self._api is None:
            access = KubeAccess.in_cluster()
            if access is None:
                raise CollectorError("this is no Kubernetes pod: there is no service account")
            self._api = KubeApi(access)
        return self._api

    async def _lists(self) -> tuple[list[KubeNode], list[KubePod] | None, dict[str, str]]:
        """Return nodes, pods (None if they cannot be listed) and problems."""
        raw_nodes, raw_pods = await asyncio.gather(
            self._list("/api/v1/nodes"), self._list("/api/v1/pods")
        )
        if isinstance(raw_nodes, str):
            raise CollectorError(raw_nodes)
        # A list that was begun anew may name an object twice; the later one is the newer one.
        parsed = filter(None, map(parse_node, raw_nodes))
        nodes = list({node.name: node for node in parsed}.values())
        if not nodes:
            raise CollectorError("the API server lists no nodes")
        problems = {}
        if nodes[MAX_NODES:]:
            problems["number of nodes"] = f"{len(nodes)}; {MAX_NODES} are reported"
        if isinstance(raw_pods, str):
            return nodes[:MAX_NODES], None, {**problems, "list of pods": raw_pods}
        pods = {(pod.ns, pod.name): pod for pod in filter(None, map(parse_pod, raw_pods))}
        return nodes[:MAX_NODES], list(pods.values()), problems

    async def _list(self, path: str) -> list[dict[str, Any]] | str:
        """Return the objects, or why there are none."""
        try:
            return await self._ready_api().list_all(path, deadline_seconds=self._list_seconds)
        except CollectorError as exc:
            return str(exc)
        except TimeoutError:
            return f"{path}: not listed within {self._list_seconds:g} s"

    async def _summaries(self, nodes: Iterable[str]) -> dict[str, dict[str, Any] | str]:
        """Return each node's summary, or why there is none, all within one deadline."""
        gate = asyncio.Semaphore(MAX_CONCURRENT)
        found: dict[str, dict[str, Any] | str] = {}

        async def ask(node: str) -> None:
            path = f"/api/v1/nodes/{quote(node, safe='')}/proxy/stats/summary"
            async with gate:
                try:
                    answer = await self._ready_api().get(
                        path, deadline_seconds=self._summary_seconds
                    )
                except CollectorError as exc:
                    found[node] = str(exc).removeprefix(f"{path}: ")
                    return
            found[node] = _believed(node, answer)

        # Those that did not answer last time come last: they must not delay the others.
        names = sorted(nodes, key=lambda node: (node in self._silent, node))
        tasks = [asyncio.create_task(ask(node)) for node in names]
        try:
            await asyncio.wait(tasks, timeout=self._summary_seconds)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        self._silent = {node for node in names if not isinstance(found.get(node), dict)}
        late = f"no answer within {self._summary_seconds:g} s"
        return {node: found.get(node, late) for node in names}

    def _fresh(
        self, answers: Mapping[str, dict[str, Any] | str], now: float
    ) -> dict[str, dict[str, Any] | str]:
        """Return the answers; of those that repeat old readings only that they do."""
        return {
            node: (isinstance(answer, dict) and self._stale.why_stale(node, answer, now)) or answer
            for node, answer in answers.items()
        }

    def _node_samples(
        self,
        nodes: Iterable[KubeNode],
        running: Mapping[str, int],
        answers: Mapping[str, dict[str, Any] | str],
        now: float,
    ) -> list[Sample]:
        """Return each node and its filesystems.

        A node of which ``running`` has no number of pods says none.
        """
        samples: list[Sample] = []
        for node in nodes:
            answer = answers[node.name]
            summary: Mapping[str, Any] = answer if isinstance(answer, dict) else {}
            filesystems, totals = self._disks.read(node.name, summary)
            values = {
                **self._node_values(node, child(summary, "node"), now),
                **totals,
                "pods": running.get(node.name),
                "ready": node.ready,
            }
            attrs = {**node.attrs, "problem": _problem(answer)}
            samples.append(make_sample("node", node.name, values, attrs=attrs))
            samples.extend(filesystems)
        return samples

    def _node_values(self, node: KubeNode, stats: Any, now: float) -> dict[str, float | None]:
        key = ("node", node.name)
        available = number(stats, "memory", "availableBytes")
        used = memory(stats, "workingSetBytes", node.mem_cap)
        mem_cap = node.mem_cap
        if mem_cap is None and used is not None and available is not None:
            mem_cap = used + available
        started = timestamp(child(stats, "startTime"))
        return {
            # A node that uses no CPU at all was not measured.
            "cpu_mc": self._usage.cpu(key, stats, node.cpu_cap_mc) or None,
            "cpu_cap_mc": node.cpu_cap_mc,
            "mem_ws": used,
            "mem_cap": mem_cap,
            **self._usage.network(key, child(stats, "network")),
            "uptime_s": None if started is None else now - started,
        }

    def _pod(
        self,
        pod: KubePod,
        node: KubeNode | None,
        stats: Mapping[str, Any],
        node_stats: Any,
    ) -> Sample:
        # The id is part of the key: a pod recreated under its name begins at zero.
        key = ("pod", pod.ns, pod.name, pod.uid)
        cpu_cap_mc, mem_cap = (node.cpu_cap_mc, node.mem_cap) if node else (None, None)
        values: dict[str, float | None] = {"restarts": pod.restarts}
        if pod.phase not in ENDED_PHASES:
            values |= {
                "cpu_mc": self._usage.cpu(key, stats, cpu_cap_mc),
                "mem_ws": memory(stats, "workingSetBytes", mem_cap),
                "mem_rss": memory(stats, "rssBytes", mem_cap),
                "fs_used": disk_use(stats),
            }
            # A pod on the host's network would show the node's traffic as its own.
            if not (
                shares_network(stats, node_stats) if pod.host_network is None else pod.host_network
            ):
                values |= self._usage.network(key, child(stats, "network"))
        return make_sample("pod", pod.name, values, ns=pod.ns, node=pod.node, attrs=pod.attrs)


def _believed(node: str, answer: object) -> dict[str, Any] | str:
    """Return a summary, or why it is not this node's."""
    if not isinstance(answer, dict):
        return "the summary is no object"
    # A cloud gives the address of a node that died to a new one.
    other = text(answer, "node", "nodeName")
    return f"node {other} answers at its address" if other and other != node else answer


def _running(counted: Iterable[str], pods: Iterable[KubePod]) -> dict[str, int]:
    """Return how many pods run on each node; of nodes that are not ``counted`` only those known."""
    running = dict.fromkeys(counted, 0)
    for pod in pods:
        if pod.phase not in ENDED_PHASES:
            running[pod.node] = running.get(pod.node, 0) + 1
    return running


def _problem(answer: dict[str, Any] | str) -> str:
    """Return why a node's kubelet gives no numbers; "" if it does."""
    if isinstance(answer, str):
        return f"its kubelet gives no numbers: {answer}"
    if not child(answer, "node", "cpu") and not child(answer, "node", "memory"):
        return "its kubelet gives no numbers: they are not in its answer"
    return ""


def _is_shown(pod: KubePod, now: float) -> bool:
    """Return whether a pod is reported; those that are done stay listed until they are deleted."""
    return pod.phase != "Succeeded" or (
        pod.ended_at is not None and now - pod.ended_at <= DONE_SECONDS
    )


def _pods_of(entries: PodEntries) -> list[KubePod]:
    """Return the pods that the kubelets know, for when the API server does not list them."""
    return [
        KubePod(
            ns=text(stats, "podRef", "namespace"),
            name=text(stats, "podRef", "name"),
            uid=text(stats, "podRef", "uid"),
            kubelet_uid="",
            node=node,
            phase="",
            host_network=None,
            restarts=None,
            ended_at=None,
            attrs={},
        )
        for node, stats in entries.newest()
    ]
