"""The queries to Prometheus for each field of the catalogue. Pure.

Every expression

* keeps the labels that identify the value's owner, under all of their names: ``pod`` and
  ``pod_name``, ``exported_pod`` where a scrape did not honour its target's labels, ``node`` and
  ``instance``;
* takes the maximum over all other labels before it adds up, so that two replicas of Prometheus, or
  two jobs that scrape one target, never count double;
* leaves parts that cannot be believed out of a sum, so that they do not spoil the others;
* rounds to whole numbers on the server, which makes answers a third shorter.

A node's value may come from several exporters. They have ranks: for each minute the lowest rank
that has a value wins. Several expressions go into one request (:func:`joined`); the label
:data:`TAG` says which one a series of the answer belongs to.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from string import ascii_letters, digits

from agent.own_parts import (
    FACES,
    SECOND_FACES,
    UNLISTED_MOUNTS,
    UNLISTED_TYPES,
    VIRTUAL_INTERFACES,
)
from metrics.series.catalog import Kind
from metrics.sources.bounds import bounds_of

TAG = "q"
_NAMES_SECONDS = 6 * 3600
_PODS_SECONDS = 600
_JOBS_LENGTH = 600  # characters of a query that name jobs
UP = "up"
"""Tag of the series for whether anything was scraped: 0 where nothing was for a minute."""
TARGET = "target"
"""Tag of the series for whether one machine was scraped: ``up`` of its exporter or kubelet."""
KUBE_STATE = "kube-state-metrics"
CADVISOR = "the kubelet's cAdvisor"
NODE_EXPORTER = "node-exporter"
ETCD = "etcd"

NODE_LABELS = (
    "exported_node", "node", "kubernetes_node", "kubernetes_io_hostname", "nodename", "instance",
)  # fmt: skip
POD_LABELS = ("namespace", "pod", "exported_namespace", "exported_pod")

_PLAIN = frozenset(ascii_letters + digits + "_-:/ ")  # in a regular expression too
_NODE = ",".join(NODE_LABELS)
_KSM_NODE = "node,exported_node"
_POD = ",".join(POD_LABELS)
_FS = f"{_NODE},device,mountpoint,fstype"

# What is left is the node's own, or listed at least; rows are made of it by the same rule.
_MOUNTS = f'{{fstype!~"{UNLISTED_TYPES}",mountpoint!~"{UNLISTED_MOUNTS}"}}'
_CARDS = f'device!~"{VIRTUAL_INTERFACES}"'
_ROOT = '{id="/"}'
_ROOT_DISKS = '{id="/",device=~"/dev/.+",device!~"/dev/(shm|fuse|loop|longhorn|ram|rbd|sr).*"}'
_CONTAINERS = '{container!="",container!="POD"}'
_OLD_CONTAINERS = '{container_name!="",container_name!="POD"}'

# What only a machine has: the bridges of its containers, and their ends of pairs.
_HOST_ENDS = (
    "veth.*|cali[0-9a-f]+|cni[0-9]+|cbr0|docker0|flannel.*|cilium_.*|lxc[0-9a-f]+|eni[0-9a-f]{11,}|"
    "azv.*|gke.*|weave|antrea-gw0|ovn-k8s-mp0|kube-ipvs0"
)

_READY = f'max by({_KSM_NODE})(kube_node_status_condition{{condition="Ready",status="true"}})'


@dataclass(frozen=True, slots=True)
class Query:
    """One way to get one field.

    Attributes:
        kind: the series' kind.
        field: the field, a name of the catalogue.
        rank: 0 for the best query; others fill in what it lacks.
        expr: PromQL, an instant vector of whole numbers.
        metrics: names of the metrics it needs; any one of them, where versions differ.
        exporter: the exporter of the metrics.
        hint: why the field may have no value although the metrics exist.
        part: the label of what adds up to the field, where that is not the server's to choose; ""
            if the expression is the field itself.
    """

    kind: Kind
    field: str
    rank: int
    expr: str
    metrics: tuple[str, ...]
    exporter: str
    hint: str = ""
    part: str = ""


_RATE_HINT = "a rate needs two samples within two minutes: is it scraped every 60 s or less often?"


def _fresh(selector: str) -> str:
    """Return a gauge without what was last seen more than 90 s ago.

    The kubelet gives cAdvisor's samples their own timestamps. Prometheus then does not mark ended
    series as stale, and shows a deleted container for five more minutes.
    """
    return f"({selector} and count_over_time({selector}[90s]))"


def _old_generation(vector: str) -> str:
    return f'label_replace({vector},"pod","$1","pod_name","(.+)")'


def _believable(vector: str, kind: Kind, field: str, factor: int = 1) -> str:
    """Return the parts of a sum that can be believed; ``factor`` of a part gives the field."""
    return f"{vector}>=0<={bounds_of(kind, field).most // factor}"


def _of_containers(field: str, metric: str, measure: str, *per: str, factor: int = 1) -> str:
    """Return a sum over a pod's containers, with the labels of Kubernetes 1.16 or earlier ones."""
    more = "".join(f",{label}" for label in per)
    new = measure.replace("$", metric + _CONTAINERS)
    old = _old_generation(measure.replace("$", metric + _OLD_CONTAINERS))
    parts = (
        _believable(f"max by({_POD},{label}{more})({vector})", "pod", field, factor)
        for label, vector in (("container", new), ("container_name", old))
    )
    sums = " or ".join(f"sum by({_POD})({part})" for part in parts)
    return f"round({factor}*({sums}))" if factor > 1 else f"round({sums})"


def _gauge_of_containers(field: str, metric: str, *per: str) -> str:
    fresh = _fresh("$")
    return _of_containers(field, metric, fresh, *per)


def _without_resets(by: str, per: str, rate: str, resets: str) -> str:
    """Return summed rates, and nothing for two minutes around a reset of any of the counters."""
    parts = _believable(f"max by({by},{per})({rate})", "node", "net_rx_bps")
    return f"(sum by({by})({parts}) unless (sum by({by})(max by({by},{per})({resets})) > 0))"


def _network_of_pods(metric: str) -> str:
    parts = []
    for label in ("pod", "pod_name"):
        selector = f'{metric}{{{label}!="",interface!="lo"}}'
        rate, resets = f"rate({selector}[2m])", f"resets({selector}[2m])"
        if label == "pod_name":
            rate, resets = _old_generation(rate), _old_generation(resets)
        parts.append(_without_resets(_POD, "interface", rate, resets))
    return f"round({' or '.join(parts)})"


def _network_of_nodes(selector: str, per: str) -> str:
    """Return each interface's rate; below zero for two minutes around a reset of its counter."""
    rate, resets = (
        f"max by({_NODE},{per})({function}({selector}[2m]))" for function in ("rate", "resets")
    )
    return f"(round({rate})+1)*(1-2*({resets}>bool 0))-1"


def _capacity(resource: str, old: str, factor: str = "") -> str:
    new = f'kube_node_status_capacity{{resource="{resource}"}}'
    return f"round({factor}max by({_KSM_NODE})({new} or {old}))"


def _root(metric: str) -> str:
    return f"round(max by({_NODE})({_fresh(metric + _ROOT)}))"


def _disk(field: str, metric: str) -> str:
    parts = f"max by({_NODE},device)({_fresh(metric + _ROOT_DISKS)})"
    return f"round(sum by({_NODE})({_believable(parts, 'node', field)}))"


def _node_queries() -> Iterable[Query]:
    cpu, modes = "container_cpu_usage_seconds_total", 'mode!~"idle|iowait|guest|guest_nice"'
    parts = _believable(f"max by({_NODE},cpu)(rate({cpu}{_ROOT}[2m]))", "node", "cpu_mc", 1000)
    yield Query(
        "node", "cpu_mc", 0, f"round(1000*sum by({_NODE})({parts}))", (cpu,), CADVISOR, _RATE_HINT
    )
    # One mode of one CPU is at most a whole CPU. One that falls at every reading, as steal may
    # (prometheus/node_exporter#742), is taken for a counter that starts anew, and is far more; one
    # that falls below zero is less than nothing.
    yield Query(
        "node", "cpu_mc", 1,
        f"round(1000*sum by({_NODE})(max by({_NODE},cpu,mode)"
        f"(rate(node_cpu_seconds_total{{{modes}}}[2m]))>=0<=2))",
        ("node_cpu_seconds_total",), NODE_EXPORTER, _RATE_HINT,
    )  # fmt: skip
    for field, resource, old, machine, own, factor in (
        ("cpu_cap_mc", "cpu", "kube_node_status_capacity_cpu_cores", "machine_cpu_cores",
         f'count by({_NODE})(max by({_NODE},cpu)(node_cpu_seconds_total{{mode="idle"}}))', "1000*"),
        ("mem_cap", "memory", "kube_node_status_capacity_memory_bytes", "machine_memory_bytes",
         f"max by({_NODE})(node_memory_MemTotal_bytes)", ""),
    ):  # fmt: skip
        names = ("kube_node_status_capacity", old)
        yield Query("node", field, 0, _capacity(resource, old, factor), names, KUBE_STATE)
        on_root = f"round({factor}max by({_NODE})({machine}))"
        yield Query("node", field, 1, on_root, (machine,), CADVISOR)
        name = "node_cpu_seconds_total" if factor else "node_memory_MemTotal_bytes"
        yield Query("node", field, 2, f"round({factor}{own})", (name,), NODE_EXPORTER)
    memory = "container_memory_working_set_bytes"
    yield Query("node", "mem_ws", 0, _root(memory), (memory,), CADVISOR)
    yield Query(
        "node", "mem_ws", 1,
        f"round(max by({_NODE})(node_memory_MemTotal_bytes-node_memory_MemAvailable_bytes))",
        ("node_memory_MemAvailable_bytes",), NODE_EXPORTER,
    )  # fmt: skip
    # Rank 0 of these is the sum of the node's filesystems, which is made from the answer.
    for field, metric in (
        ("fs_used", "container_fs_usage_bytes"), ("fs_cap", "container_fs_limit_bytes"),
        ("inodes_total", "container_fs_inodes_total"), ("inodes_free", "container_fs_inodes_free"),
    ):  # fmt: skip
        yield Query("node", field, 1, _disk(field, metric), (metric,), CADVISOR)
    for field, way in (("net_rx_bps", "receive"), ("net_tx_bps", "transmit")):
        for rank, prefix, selector, label, exporter in (
            (0, "node", _CARDS, "device", NODE_EXPORTER),
            (1, "container", f'id="/",interface!~"{VIRTUAL_INTERFACES}"', "interface", CADVISOR),
        ):
            name = f"{prefix}_network_{way}_bytes_total"
            expr = _network_of_nodes(f"{name}{{{selector}}}", label)
            yield Query("node", field, rank, expr, (name,), exporter, _RATE_HINT, label)
    yield from _node_facts()


def _node_facts() -> Iterable[Query]:
    yield Query(
        "node", "load1_m", 0, f"round(1000*max by({_NODE})(node_load1))",
        ("node_load1",), NODE_EXPORTER,
    )  # fmt: skip
    yield Query(
        "node", "uptime_s", 0, f"round(max by({_NODE})(time()-node_boot_time_seconds))",
        ("node_boot_time_seconds",), NODE_EXPORTER,
    )  # fmt: skip
    pods = f'max by({_POD},{_KSM_NODE})(kube_pod_info{{node!=""}})'
    yield Query("node", "pods", 0, f"count by({_KSM_NODE})({pods})", ("kube_pod_info",), KUBE_STATE)
    yield Query("node", "ready", 0, _READY, ("kube_node_status_condition",), KUBE_STATE)
    fsync = "etcd_disk_wal_fsync_duration_seconds_bucket"
    yield Query(
        "node", "etcd_fsync_us", 0,
        f"round(1e6*histogram_quantile(0.99,max by({_NODE},pod,le)(rate({fsync}[5m]))))",
        (fsync,), ETCD, "etcd wrote nothing within five minutes",
    )  # fmt: skip
    leader = "etcd_server_leader_changes_seen_total"
    yield Query("node", "etcd_leader_changes", 0, f"max by({_NODE},pod)({leader})", (leader,), ETCD)


def _filesystem_queries() -> Iterable[Query]:
    # What has no partner on the left is left out.
    size = f"node_filesystem_size_bytes{_MOUNTS}"
    free, avail, files = (
        f"node_filesystem_{name}" for name in ("free_bytes", "avail_bytes", "files")
    )
    hint = "only filesystems that hold data count, not tmpfs or the layers of containers"
    for field, value, metric in (
        # Like df and the agent: what is reserved for root is neither used nor capacity.
        ("used", f"{size}-{free}", free),
        ("cap", f"{size}-{free}+{avail}", avail),
        ("inodes_total", f"{files}{_MOUNTS}>0", files),
        ("inodes_free", f"{files}_free{_MOUNTS} and {files}>0", f"{files}_free"),
    ):  # fmt: skip
        expr = f"max by({_FS})({value})"
        yield Query("filesystem", field, 0, expr, (metric,), NODE_EXPORTER, hint)


def _pod_queries() -> Iterable[Query]:
    hint = "no series has labels of a pod and a container; this is usual with some runtimes"
    cpu = "container_cpu_usage_seconds_total"
    expr = _of_containers("cpu_mc", cpu, "rate($[2m])", "cpu", factor=1000)
    yield Query("pod", "cpu_mc", 0, expr, (cpu,), CADVISOR, f"{_RATE_HINT} Or {hint}")
    for field, metric, per in (
        ("mem_ws", "container_memory_working_set_bytes", ()),
        ("mem_rss", "container_memory_rss", ()),
        ("fs_used", "container_fs_usage_bytes", ("device",)),
    ):
        expr = _gauge_of_containers(field, metric, *per)
        yield Query("pod", field, 0, expr, (metric,), CADVISOR, hint)
    for field, way in (("net_rx_bps", "receive"), ("net_tx_bps", "transmit")):
        name = f"container_network_{way}_bytes_total"
        yield Query("pod", field, 0, _network_of_pods(name), (name,), CADVISOR, _RATE_HINT)
    restarts = "kube_pod_container_status_restarts_total"
    # Sidecars are init containers that are started again; kube-state-metrics names them since 2.11.
    sidecars = (
        f"(kube_pod_init_container_status_restarts_total and on({_POD},container)"
        ' kube_pod_init_container_info{restart_policy="Always"})'
    )
    expr = f"sum by({_POD})(max by({_POD},container)({restarts} or {sidecars}))"
    yield Query("pod", "restarts", 0, expr, (restarts,), KUBE_STATE)


QUERIES: tuple[Query, ...] = (*_node_queries(), *_filesystem_queries(), *_pod_queries())

# Count of scraped targets; 0 where there were some within ten minutes, but not within this one.
# 65 s, so that one scrape a minute that is a little late still counts.
UP_EXPR = "(count(count_over_time(up[65s])) or 0*count(count_over_time(up[10m])))"


def joined(numbers: Sequence[int], targets: str = "") -> str:
    """Return one expression that answers several of :data:`QUERIES`, and whether anything was up.

    Args:
        numbers: indexes into :data:`QUERIES`; each becomes the value of the label :data:`TAG`.
        targets: result of :func:`targets_expr`, to ask for that too; "" to omit it.
    """
    return _either(
        [
            _tagged(UP_EXPR, UP),
            *([_tagged(targets, TARGET)] if targets else []),
            *(_tagged(QUERIES[number].expr, str(number)) for number in numbers),
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
    return f"max by({_NODE},job)({' or '.join([*of_jobs, answering])})"


def _tagged(expr: str, tag: str) -> str:
    return f'label_replace({expr},"{TAG}","{tag}","","")'


def _either(exprs: Sequence[str]) -> str:
    """Join by ``or`` as a balanced tree: every ``or`` copies all that is on its left."""
    if len(exprs) == 1:
        return exprs[0]
    half = len(exprs) // 2
    return f"({_either(exprs[:half])} or {_either(exprs[half:])})"


def facts_expr(window: int) -> str:
    """Return the expression for the facts of a window: nodes, their addresses, pods' nodes.

    To be evaluated at the window's end. Tags: ``node`` (kube_node_info), ``ready`` (1 for nodes
    that are), ``role``, ``uname`` (node-exporter's), ``kubelet``, ``cadvisor`` (where there are no
    pods), ``pod`` (kube_pod_info), and ``on_host`` (pods that seem to be on their node's network);
    nodes and pods are 2 if they exist at the window's end, 1 if they did before. Of node-exporters
    too ``bond``, ``stacked`` and ``tunnel`` (interfaces on others), ``face`` (addresses of cards
    that may be seen twice), and ``ro`` (filesystems that cannot be written).

    Args:
        window: length of the window in seconds, > 0.
    """
    # Nodes keep their names while kube-state-metrics is away for a while, and pods their nodes.
    lately, within = f"[{max(window, _NAMES_SECONDS)}s]", f"[{max(window, _PODS_SECONDS)}s]"
    pod = f"{_POD},{_KSM_NODE},host_ip,pod_ip,host_network,created_by_kind,created_by_name"
    node = (
        f"{_KSM_NODE},internal_ip,os_image,kernel_version,kubelet_version,container_runtime_version"
    )
    uname = f"{_NODE},job,pod,namespace,release,machine"
    # A standalone cAdvisor, on a machine without Kubernetes, is not a kubelet.
    container = "container_memory_working_set_bytes"
    pods = f'(count({container}{{pod!=""}}) or count({container}{{pod_name!=""}}))'
    machines = f"max by({_NODE},job)(max_over_time(machine_cpu_cores{lately}))"
    return _either([
        *_own_parts(lately, within),
        _tagged(
            f"(2*max by({node})(kube_node_info)"
            f" or max by({node})(max_over_time(kube_node_info{lately})))",
            "node",
        ),
        _tagged(_READY, "ready"),
        *_on_host(window),
        _tagged(f"max by({_KSM_NODE},role)(max_over_time(kube_node_role{lately}))", "role"),
        _tagged(f"max by({uname})(max_over_time(node_uname_info{lately}))", "uname"),
        _tagged(f"({machines} and on() {pods})", "kubelet"),
        _tagged(f"({machines} unless on() {pods})", "cadvisor"),
        _tagged(
            f"(2*max by({pod})(kube_pod_info)"
            f" or max by({pod})(max_over_time(kube_pod_info{within})))",
            "pod",
        ),
    ])  # fmt: skip


def _on_host(window: int) -> list[str]:
    """Return the pods for which cAdvisor counts what only their node has.

    A short window looks at its end only: a machine has many such interfaces.
    """
    counter = f'container_network_receive_bytes_total{{interface=~"{_HOST_ENDS}"'
    new, old = (f'{counter},{label}!=""}}' for label in ("pod", "pod_name"))
    if window > _PODS_SECONDS:
        new, old = (f"max_over_time({vector}[{window}s])" for vector in (new, old))
    return [
        _tagged(f"max by({_POD})({vector})", "on_host") for vector in (new, _old_generation(old))
    ]


def _own_parts(lately: str, within: str) -> list[str]:
    """Return what tells which interfaces are a node's own, and its read-only filesystems."""
    link, index, framing, framing_but_modems = (
        f"max_over_time(node_network_{name}{{{_CARDS}{more}}}{lately})"
        for name, more in (
            ("iface_link", ""), ("iface_id", ""),
            ("protocol_type", ""), ("protocol_type", ',device!~"(ww|rmnet).*"'),
        )
    )  # fmt: skip
    # ARPHRD_* of Linux: 768 to 826 are tunnels and second views of a card. 65534 is what has no
    # frames at all, as TUN and WireGuard, and modems of mobile networks.
    tunnels = f"{framing}>=768<=826 or {framing_but_modems}==65534"
    faces, seconds = (
        f'max_over_time(node_network_info{{device=~"{names}"}}{lately})'
        for names in (FACES, SECOND_FACES)
    )
    face = f"max by({_NODE},device,address)({faces}) and on({_NODE}) max by({_NODE})({seconds})"
    bonds = f"max_over_time(node_bonding_slaves{lately})>0"
    read_only = f"max_over_time(node_filesystem_readonly{_MOUNTS}{within})>0"
    return [
        _tagged(f"max by({_NODE},master)({bonds})", "bond"),
        _tagged(f"max by({_NODE},device)({link}!={index})", "stacked"),
        _tagged(f"max by({_NODE},device)({tunnels})", "tunnel"),
        _tagged(f"({face})", "face"),
        _tagged(f"max by({_NODE},mountpoint)({read_only})", "ro"),
    ]


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
    return _either(
        [
            _tagged("count(up)", UP),
            _tagged(f'count({container}{{pod!=""}})', "pod"),
            _tagged(f'count({container}{{pod_name!=""}})', "pod_name"),
            _tagged("count(kube_node_status_capacity_cpu_cores)", "ksm1"),
            *(
                _tagged(f'count(count by({label})(up{{{label}!=""}}))', label)
                for label in ("prometheus_replica", "replica")
            ),
        ]
    )


def names_expr(names: Iterable[str]) -> str:
    """Return the expression that counts the series of each of these metrics."""
    return f'count by(__name__)({{__name__=~"{"|".join(sorted(set(names)))}"}})'
