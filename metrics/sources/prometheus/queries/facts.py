"""The query for the facts of a window: nodes, their addresses, pods' nodes. Pure."""

from __future__ import annotations

from agent.own_parts import FACES, SECOND_FACES
from metrics.sources.prometheus.queries.parts import (
    CARDS,
    KSM_NODE,
    MOUNTS,
    NODE,
    POD,
    READY,
    either,
    old_generation,
    tagged,
)

_NAMES_SECONDS = 6 * 3600
_PODS_SECONDS = 600
# What only a machine has: the bridges of its containers, and their ends of pairs.
_HOST_ENDS = (
    "veth.*|cali[0-9a-f]+|cni[0-9]+|cbr0|docker0|flannel.*|cilium_.*|lxc[0-9a-f]+|eni[0-9a-f]{11,}|"
    "azv.*|gke.*|weave|antrea-gw0|ovn-k8s-mp0|kube-ipvs0"
)


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
    pod = f"{POD},{KSM_NODE},host_ip,pod_ip,host_network,created_by_kind,created_by_name"
    node = (
        f"{KSM_NODE},internal_ip,os_image,kernel_version,kubelet_version,container_runtime_version"
    )
    uname = f"{NODE},job,pod,namespace,release,machine"
    # A standalone cAdvisor, on a machine without Kubernetes, is not a kubelet.
    container = "container_memory_working_set_bytes"
    pods = f'(count({container}{{pod!=""}}) or count({container}{{pod_name!=""}}))'
    machines = f"max by({NODE},job)(max_over_time(machine_cpu_cores{lately}))"
    return either([
        *_own_parts(lately, within),
        tagged(
            f"(2*max by({node})(kube_node_info)"
            f" or max by({node})(max_over_time(kube_node_info{lately})))",
            "node",
        ),
        tagged(READY, "ready"),
        *_on_host(window),
        tagged(f"max by({KSM_NODE},role)(max_over_time(kube_node_role{lately}))", "role"),
        tagged(f"max by({uname})(max_over_time(node_uname_info{lately}))", "uname"),
        tagged(f"({machines} and on() {pods})", "kubelet"),
        tagged(f"({machines} unless on() {pods})", "cadvisor"),
        tagged(
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
    return [tagged(f"max by({POD})({vector})", "on_host") for vector in (new, old_generation(old))]


def _own_parts(lately: str, within: str) -> list[str]:
    """Return what tells which interfaces are a node's own, and its read-only filesystems."""
    link, index, framing, framing_but_modems = (
        f"max_over_time(node_network_{name}{{{CARDS}{more}}}{lately})"
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
    face = f"max by({NODE},device,address)({faces}) and on({NODE}) max by({NODE})({seconds})"
    bonds = f"max_over_time(node_bonding_slaves{lately})>0"
    read_only = f"max_over_time(node_filesystem_readonly{MOUNTS}{within})>0"
    return [
        tagged(f"max by({NODE},master)({bonds})", "bond"),
        tagged(f"max by({NODE},device)({link}!={index})", "stacked"),
        tagged(f"max by({NODE},device)({tunnels})", "tunnel"),
        tagged(f"({face})", "face"),
        tagged(f"max by({NODE},mountpoint)({read_only})", "ro"),
    ]
