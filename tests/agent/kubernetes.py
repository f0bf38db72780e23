"""A server that plays the Kubernetes API: nodes, pods, and the kubelets' summaries.

The shapes are those of Kubernetes' API reference (``v1.Node``, ``v1.Pod``, ``meta/v1.Status``) and
of the kubelet's ``stats/v1alpha1.Summary``; names and numbers are invented. Answers of a real
Kubernetes 1.34, shortened, are in ``collectors/samples/kubernetes``.
"""

from __future__ import annotations

import asyncio
import copy
import json
import shutil
import ssl
from datetime import UTC, datetime
from pathlib import Path

from aiohttp import web

GIB = 2**30
SAMPLES = Path(__file__).parent / "collectors" / "samples" / "kubernetes"


def real_answer(name: str) -> dict:
    """Return an answer of a real cluster."""
    return json.loads((SAMPLES / f"{name}.json").read_text())


def real_pods() -> list[dict]:
    """Return every pod of the real cluster's lists."""
    names = sorted(path.stem for path in SAMPLES.glob("*_pods.json"))
    return [item for name in names for item in real_answer(name)["items"]]


def rfc3339(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def node(name: str, *, ready: str = "True", role: str = "worker") -> dict:
    return {
        "metadata": {
            "name": name,
            "uid": f"uid-{name}",
            "labels": {"kubernetes.io/hostname": name, f"node-role.kubernetes.io/{role}": ""},
        },
        "spec": {"podCIDR": "10.244.1.0/24"},
        "status": {
            "capacity": {"cpu": "4", "memory": "16393164Ki", "pods": "110"},
            "allocatable": {"cpu": "3920m", "memory": "15G", "pods": "110"},
            "conditions": [
                {"type": "MemoryPressure", "status": "False"},
                {"type": "DiskPressure", "status": "True"},
                {"type": "Ready", "status": ready, "reason": "KubeletReady"},
            ],
            "nodeInfo": {
                "architecture": "amd64",
                "containerRuntimeVersion": "containerd://1.7.13",
                "kernelVersion": "6.1.0-18-amd64",
                "kubeletVersion": "v1.29.3",
                "osImage": "Debian GNU/Linux 12 (bookworm)",
            },
        },
    }


def pod(ns: str, name: str, on: str, *, phase: str = "Running", restarts: int = 0) -> dict:
    """Return a pod whose first container crashes again and again; ``on`` "" is no node yet."""
    made = _pod(ns, name, on, phase=phase, restarts=restarts)
    if not on:
        del made["spec"]["nodeName"]
        made["status"] = {
            "phase": phase,
            "conditions": [
                {
                    "type": "PodScheduled",
                    "status": "False",
                    "reason": "Unschedulable",
                    "message": "0/2 nodes are available: 2 Insufficient cpu.",
                }
            ],
        }
    return made


def terminated(code: int, reason: str, at: float) -> dict:
    """Return the state of a container that has ended."""
    return {"terminated": {"exitCode": code, "reason": reason, "finishedAt": rfc3339(at)}}


def initializing(item: dict, state: dict, *, restarts: int = 0, sidecar: bool = False) -> dict:
    """Add an init container in this state; the pod's own containers wait for it."""
    init = {"name": "init", "image": "registry.example/init:1"}
    item["spec"]["initContainers"] = [init | ({"restartPolicy": "Always"} if sidecar else {})]
    item["status"] |= {
        "phase": "Pending",
        "conditions": [{"type": "Initialized", "status": "False"}],
        "initContainerStatuses": [
            {"name": "init", "ready": False, "restartCount": restarts, "state": state}
        ],
        "containerStatuses": [
            {
                "name": one["name"],
                "restartCount": 0,
                "state": {"waiting": {"reason": "PodInitializing"}},
            }
            for one in item["spec"]["containers"]
        ],
    }
    return item


def deleted(item: dict, at: float) -> dict:
    """Mark a pod as being deleted, held by a finaliser."""
    item["metadata"] |= {"deletionTimestamp": rfc3339(at), "finalizers": ["example.com/hold"]}
    return item


def _pod(ns: str, name: str, on: str, *, phase: str, restarts: int) -> dict:
    return {
        "metadata": {
            "name": name,
            "namespace": ns,
            "uid": f"uid-{name}",
            "labels": {"app": "web", "pod-template-hash": "6d4cf56db6"},
            "ownerReferences": [
                {"kind": "ReplicaSet", "name": "web-6d4cf56db6", "controller": True}
            ],
        },
        "spec": {
            "nodeName": on,
            "containers": [
                {"name": "web", "image": "registry.example/web:1.4"},
                {"name": "sidecar", "image": "registry.example/proxy:2"},
            ],
        },
        "status": {
            "phase": phase,
            "containerStatuses": [
                {
                    "name": "web",
                    "restartCount": restarts,
                    "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                    "lastState": {
                        "terminated": {
                            "exitCode": 137,
                            "reason": "OOMKilled",
                            "finishedAt": "2026-04-02T10:00:00Z",
                        }
                    },
                },
                {
                    "name": "sidecar",
                    "restartCount": 1,
                    "state": {"running": {"startedAt": "2026-04-01T10:00:00Z"}},
                    "lastState": {
                        "terminated": {
                            "exitCode": 1,
                            "reason": "Error",
                            "finishedAt": "2026-04-01T09:59:00Z",
                        }
                    },
                },
            ],
        },
    }


def summary(name: str, pods: list[dict], *, at: float, rx: int = 10**9) -> dict:
    when = rfc3339(at)
    disk = {
        "time": when,
        "availableBytes": 60 * GIB,
        "capacityBytes": 100 * GIB,
        "usedBytes": 35 * GIB,
        "inodesFree": 6_120_096,
        "inodes": 6_258_720,
        "inodesUsed": 138_624,
    }
    return {
        "node": {
            "nodeName": name,
            "systemContainers": [
                {"name": "kubelet", "startTime": when, "cpu": {"usageNanoCores": 11_263_994}}
            ],
            "startTime": rfc3339(at - 86_400),
            "cpu": {
                "time": when,
                "usageNanoCores": 1_250_400_000,
                "usageCoreNanoSeconds": 4_189_523_881_380,
            },
            "memory": {
                "time": when,
                "availableBytes": 10 * GIB,
                "usageBytes": 7 * GIB,
                "workingSetBytes": 5 * GIB,
                "rssBytes": 4 * GIB,
                "pageFaults": 131_567,
                "majorPageFaults": 103,
            },
            "network": {
                "time": when,
                "name": "eth0",
                "rxBytes": rx,
                "rxErrors": 0,
                "txBytes": rx // 2,
                "txErrors": 0,
                "interfaces": [{"name": "eth0", "rxBytes": rx, "txBytes": rx // 2}],
            },
            "fs": disk,
            "runtime": {"imageFs": {**disk, "usedBytes": 8 * GIB}},
            "rlimit": {"time": when, "maxpid": 4_194_304, "curproc": 512},
        },
        "pods": [pod_stats(item, at=at, rx=rx // 10) for item in pods],
    }


def pod_stats(item: dict, *, at: float, rx: int) -> dict:
    when = rfc3339(at)
    meta = item["metadata"]
    return {
        "podRef": {"name": meta["name"], "namespace": meta["namespace"], "uid": meta["uid"]},
        "startTime": when,
        "containers": [
            {
                "name": "web",
                "startTime": when,
                "cpu": {
                    "time": when,
                    "usageNanoCores": 100_000_000,
                    "usageCoreNanoSeconds": 10**12,
                },
                "memory": {"time": when, "workingSetBytes": 90 * 2**20, "rssBytes": 70 * 2**20},
                "rootfs": {"time": when, "usedBytes": 61_440},
                "logs": {"time": when, "usedBytes": 28_672},
            },
            {"name": "sidecar", "cpu": {"time": when, "usageNanoCores": 50_000_000}},
        ],
        "cpu": {"time": when, "usageNanoCores": 151_600_000, "usageCoreNanoSeconds": 10**12},
        "memory": {"time": when, "workingSetBytes": 100 * 2**20, "rssBytes": 80 * 2**20},
        "network": {"time": when, "name": "eth0", "rxBytes": rx, "txBytes": rx * 2},
        "volume": [{"name": "kube-api-access", "usedBytes": 12_288}],
        "ephemeral-storage": {"time": when, "usedBytes": 123_904},
    }


class FakeKubernetes:
    """State that tests change between two collections, and the server that shows it."""

    def __init__(self, at: float) -> None:
        self.nodes = [node("n1", role="control-plane"), node("n2")]
        self.pods = [pod("shop", "web-6d4cf56db6-x2x9k", "n1", restarts=3)]
        self.summaries: dict[str, object] = {
            "n1": summary("n1", self.pods, at=at),
            "n2": summary("n2", [], at=at),
        }
        self.token = "first-token"
        self.page_limit = 500
        self.expire_continue_once = False
        self.redirect = ""
        self.refuse: dict[str, int] = {}  # path -> status; "*" is every path
        self.fail_after_pages: int | None = None  # of each list: then 500
        self.silent: set[str] = set()  # nodes whose kubelet never answers
        self.hold: asyncio.Event | None = None  # until when kubelets wait with their answers
        self.asked = asyncio.Event()  # a kubelet was
        self.requests: list[str] = []
        self.concurrent = 0
        self.most_concurrent = 0
        self._runner: web.AppRunner | None = None

    async def start(self, tls: ssl.SSLContext | None = None) -> str:
        app = web.Application()
        app.router.add_get("/api/v1/nodes/{node}/proxy/stats/summary", self._summary)
        app.router.add_get("/api/v1/{collection}", self._list)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=tls).start()
        port = self._runner.addresses[0][1]
        return f"https://localhost:{port}" if tls else f"http://127.0.0.1:{port}"

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    def _refusal(self, request: web.Request) -> web.Response | None:
        self.requests.append(request.path_qs)
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            return self._status(401, "Unauthorized")
        if self.redirect:
            return web.Response(status=302, headers={"Location": self.redirect})
        status = self.refuse.get(request.path, self.refuse.get("*"))
        if status == 429:
            return self._status(429, "too many requests, please try again later", retry_after="1")
        if status is not None:
            return self._status(status, f"{request.path} is forbidden")
        return None

    @staticmethod
    def _status(code: int, message: str, *, retry_after: str = "") -> web.Response:
        body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message}
        headers = {"Retry-After": retry_after} if retry_after else {}
        return web.json_response({**body, "code": code}, status=code, headers=headers)

    async def _list(self, request: web.Request) -> web.StreamResponse:
        refusal = self._refusal(request)
        if refusal is not None:
            return refusal
        items = {"nodes": self.nodes, "pods": self.pods}[request.match_info["collection"]]
        start = int(request.query.get("continue", "0"))
        if start and self.expire_continue_once:
            self.expire_continue_once = False
            return self._status(410, "The provided continue parameter is too old")
        limit = min(int(request.query["limit"]), self.page_limit)
        if self.fail_after_pages is not None and start >= self.fail_after_pages * limit:
            return self._status(500, "etcdserver: request timed out")
        metadata = {"resourceVersion": "42"}
        if start + limit < len(items):
            metadata |= {"continue": str(start + limit)}
        return web.json_response(
            {
                "kind": "List",
                "apiVersion": "v1",
                "metadata": metadata,
                "items": copy.deepcopy(items[start : start + limit]),
            }
        )

    async def _summary(self, request: web.Request) -> web.StreamResponse:
        refusal = self._refusal(request)
        if refusal is not None:
            return refusal
        name = request.match_info["node"]
        self.concurrent += 1
        self.most_concurrent = max(self.most_concurrent, self.concurrent)
        try:
            if name in self.silent:
                await asyncio.sleep(60)
            self.asked.set()
            if self.hold is not None:
                await self.hold.wait()
            await asyncio.sleep(0.01)
        finally:
            self.concurrent -= 1
        answer = self.summaries.get(name)
        if answer is None:
            return self._status(503, f"error trying to reach service: dial tcp {name}:10250")
        if isinstance(answer, bytes):
            return web.Response(body=answer, content_type="application/json")
        return web.json_response(answer)


class ServiceAccountFiles:
    """The projected directory of a pod, as the kubelet writes it and rotates it.

    ``token`` and ``ca.crt`` are links through ``..data`` into a directory that is replaced as a
    whole: every file is a new one each time, the authority too, though it says the same.
    """

    def __init__(self, directory: Path, *, token: str, authority: str) -> None:
        directory.mkdir()
        self.token, self.ca = directory / "token", directory / "ca.crt"
        self._directory = directory
        self._authority = authority
        self._number = 0
        self.rotate(token)
        for path in (self.token, self.ca):
            path.symlink_to(Path("..data") / path.name)

    def rotate(self, token: str, authority: str | None = None) -> None:
        """Replace the token, and the authority's file by one with the same or a new content."""
        self._authority = authority or self._authority
        self._number += 1
        fresh = self._directory / f"..2026_{self._number}"
        fresh.mkdir()
        (fresh / "token").write_text(token)
        (fresh / "ca.crt").write_text(self._authority)
        link, former = self._directory / "..data_tmp", self._directory / "..data"
        before = former.resolve() if former.exists() else None
        link.symlink_to(fresh.name)
        link.replace(former)
        if before is not None:
            shutil.rmtree(before)
