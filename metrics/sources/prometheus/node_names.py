"""One name for each node, across kubelet, kube-state-metrics and node-exporter. Pure.

kube-state-metrics labels a node ``node``, a kubelet ``instance="10.0.0.5:10250"``, node-exporter
``instance="10.0.0.5:9100"`` or the host name. Where Kubernetes is present, the nodes are the ones
it knows, and other machines are left out, so that nothing counts twice. Without Kubernetes, each
node-exporter is a node, named by its ``instance``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address

from agent.own_parts import Link
from metrics.sources.prometheus.queries import NODE_LABELS
from metrics.sources.prometheus.responses import Labels
from metrics.sources.validation import MAX_NAME, clean_text

_NAME_LABELS = NODE_LABELS[:-1]  # without the instance
_ENGINE_TEXT = 256
_CURRENT = 2  # value of what exists at the window's end


@dataclass(slots=True)
class PodFacts:
    """What kube_pod_info reports about a pod; ``host_network`` is None where it does not say."""

    node: str = ""
    owner: str = ""
    host_network: bool | None = None
    current: bool = False


@dataclass(slots=True)
class Facts:
    """The nodes, addresses and pods of a window, from the answer to :func:`facts_expr`.

    Attributes:
        kubernetes: whether there are any Kubernetes nodes.
        node_attrs: short facts for display, by the node's name.
        pods: the pods, by namespace and name.
        unknown_nodes: machines that were left out because they are not nodes of the cluster.
        links: what is known of interfaces, by node and name.
        read_only: the mount points, as exporters name them, that cannot be written, with the node.
        jobs: the jobs that scrape machines: kubelets in Kubernetes, else node-exporters, else
            cAdvisors.
        lists_nodes: whether Kubernetes' own list of nodes was there at the window's end.
        says_ready: whether kube-state-metrics said at the window's end which nodes are ready.
        sharing: the other nodes with the same address, by node; an address that a cloud gave to
            another machine is still that of the node that it lost.
    """

    kubernetes: bool = False
    node_attrs: dict[str, dict[str, str]] = field(default_factory=dict)
    pods: dict[tuple[str, str], PodFacts] = field(default_factory=dict)
    unknown_nodes: set[str] = field(default_factory=set)
    links: dict[str, dict[str, Link]] = field(default_factory=dict)
    read_only: set[tuple[str, str]] = field(default_factory=set)
    jobs: set[str] = field(default_factory=set)
    lists_nodes: bool = False
    says_ready: bool = False
    sharing: dict[str, set[str]] = field(default_factory=dict)
    _on_host: set[tuple[str, str]] = field(default_factory=set)
    _instances: set[str] = field(default_factory=set)
    _ports: set[tuple[str, str]] = field(default_factory=set)
    _known: set[str] = field(default_factory=set)
    _by_address: dict[str, str] = field(default_factory=dict)
    _by_short: dict[str, str | None] = field(default_factory=dict)
    _unames: dict[str, list[Labels]] = field(default_factory=dict)
    _resolved: dict[tuple[str | None, ...], str | None] = field(default_factory=dict)

    def node_of(self, labels: Labels) -> str | None:
        """Return the node that a series of a kubelet or an exporter belongs to.

        Returns:
            Its name; None, recorded in ``unknown_nodes``, if it is not a node of the cluster.

        Raises:
            BadResponseError: a name is too long.
        """
        key = (*map(labels.get, NODE_LABELS), labels.get("pod"))
        if key not in self._resolved:
            self._resolved[key] = self._resolve(labels)
        return self._resolved[key]

    def is_on_host(self, pod: tuple[str, str]) -> bool:
        """Return whether a pod, by namespace and name, is on its node's network.

        Where Kubernetes does not say, it is one with interfaces that only a machine has.
        """
        about = self.pods.get(pod)
        said = None if about is None else about.host_network
        return pod in self._on_host if said is None else said

    @property
    def exporters_alone(self) -> bool:
        """Return whether there are node-exporters and no Kubernetes."""
        return bool(self._unames) and not self.kubernetes

    def only_machine(self, labels: Labels) -> str | None:
        """Return the machine of a process other than an exporter, e.g. etcd, without Kubernetes.

        Its port differs from that of the machine's exporter, so only the host identifies it.
        """
        host = host_of(labels.get("instance", ""))
        for instance, unames in self._unames.items():
            if host == host_of(instance) or host == unames[0].get("nodename"):
                return self.node_of({"instance": instance})
        self.unknown_nodes.add(_name(labels.get("instance", "?")))
        return None

    def machine_of(self, labels: Labels) -> str | None:
        """Return the machine that a target is the exporter or kubelet of; None for other targets.

        A target that never answered within the window is one too where its job and port are those
        of others: a job may have several exporters of a machine.
        """
        instance = labels.get("instance", "")
        place = (labels.get("job", ""), port_of(instance))
        if instance not in self._instances and place not in self._ports:
            return None
        if self.kubernetes:
            return self._find(labels, instance)
        return _name(_labelled_name(labels) or instance) or None

    def _resolve(self, labels: Labels) -> str | None:
        instance = labels.get("instance", "")
        labelled = _labelled_name(labels)
        found = self._find(labels, instance)
        if found is None and not self.kubernetes:
            found = labelled or instance
        name = _name(found or "")
        if not name:
            self.unknown_nodes.add(_name(instance or labelled) or "?")
            return None
        return name

    def _find(self, labels: Labels, instance: str) -> str | None:
        for label in _NAME_LABELS:
            name = _name(labels.get(label, ""))
            if name in self._known:
                return name
        host = host_of(instance)
        found = host if host in self._known else self._by_address.get(host)
        if found is not None:
            return found
        for uname in self._unames.get(instance, ()):
            found = self._of_pod(uname) or self._of_host_name(uname.get("nodename", ""))
            if found is not None:
                return found
        # etcd of a control plane: its pod is called etcd-<node>.
        pod = labels.get("pod", "")
        static = pod.partition("-")[2]
        return static if static in self._known else self._of_pod(labels) or self._of_host_name(host)

    def _of_pod(self, labels: Labels) -> str | None:
        pod = self.pods.get((labels.get("namespace", ""), labels.get("pod", "")))
        return pod.node if pod is not None and pod.node in self._known else None

    def _of_host_name(self, name: str) -> str | None:
        if name in self._known:
            return name
        return self._by_short.get(_short(name)) if name else None

    def learn(self, series: Iterable[tuple[Labels, float]], tag: str) -> None:
        """Add the answer to :func:`facts_expr`, whose tags are in the label ``tag``."""
        sorted_by_tag: dict[str, list[tuple[Labels, float]]] = {}
        for labels, value in series:
            sorted_by_tag.setdefault(labels.get(tag, ""), []).append((labels, value))
        self._learn_nodes(sorted_by_tag.get("node", ()), sorted_by_tag.get("ready", ()))
        roles: dict[str, list[str]] = {}
        for labels, _ in sorted_by_tag.get("role", ()):
            roles.setdefault(_ksm_node(labels), []).append(labels.get("role", ""))
        for node, names in roles.items():
            text = ",".join(sorted(filter(None, names)))
            self.node_attrs.setdefault(node, {})["roles"] = _text(text)
        for labels, value in sorted_by_tag.get("pod", ()):
            self._learn_pod(labels, current=value == _CURRENT)
        found = (pod_of(labels) for labels, _ in sorted_by_tag.get("on_host", ()))
        self._on_host.update(pod for pod in found if pod is not None)
        kubelets = [labels for labels, _ in sorted_by_tag.get("kubelet", ())]
        self._learn_kubelets(kubelets)
        unames = [labels for labels, _ in sorted_by_tag.get("uname", ())]
        for labels in unames:
            self._unames.setdefault(labels.get("instance", ""), []).append(labels)
        self.kubernetes = bool(self._known)
        alone = [labels for labels, _ in sorted_by_tag.get("cadvisor", ())]
        for labels in kubelets if self.kubernetes else unames or alone:
            job, instance = labels.get("job", ""), labels.get("instance", "")
            self.jobs.add(job)
            self._instances.add(instance)
            self._ports.add((job, port_of(instance)))
        for name in self._known:
            short = _short(name)
            self._by_short[short] = None if short in self._by_short else name
        self._learn_machines()
        for kind in ("bond", "stacked", "tunnel", "face"):
            self._learn_links([labels for labels, _ in sorted_by_tag.get(kind, ())])
        self._learn_read_only([labels for labels, _ in sorted_by_tag.get("ro", ())])

    def _learn_links(self, found: list[Labels]) -> None:
        """Add interfaces that lie on others, and hardware addresses."""
        for labels in found:
            node = self.node_of(labels)
            if node is not None:
                address = labels.get("address", "")
                link = Link(stacked=not address, address=address)
                name = labels.get("master") or labels.get("device", "")
                self.links.setdefault(node, {})[name] = link

    def _learn_read_only(self, found: list[Labels]) -> None:
        for labels in found:
            node = self.node_of(labels)
            if node is not None:
                self.read_only.add((node, labels.get("mountpoint", "")))

    def _learn_nodes(
        self,
        nodes: Iterable[tuple[Labels, float]],
        ready: Iterable[tuple[Labels, float]],
    ) -> None:
        """Learn the nodes and their addresses, current ones first and of those the ready ones.

        An address may have belonged to another node before, which may still be listed.
        """
        states = {_ksm_node(labels): value for labels, value in ready}
        self.says_ready = bool(states)
        sharing: dict[str, set[str]] = {}
        for labels, value in sorted(
            nodes, key=lambda one: (one[1], states.get(_ksm_node(one[0]), 0)), reverse=True
        ):
            self._learn_node(labels)
            if value == _CURRENT:
                self.lists_nodes = True
                address = labels.get("internal_ip")
                if address:
                    sharing.setdefault(address, set()).add(_ksm_node(labels))
        for names in sharing.values():
            for name in names if len(names) > 1 else ():
                self.sharing[name] = names - {name}

    def _learn_node(self, labels: Labels) -> None:
        name = _ksm_node(labels)
        if not name:
            return
        self._known.add(name)
        self._by_address.setdefault(labels.get("internal_ip") or name, name)
        attrs = {
            "os": labels.get("os_image", ""),
            "kernel": labels.get("kernel_version", ""),
            "kubelet": labels.get("kubelet_version", ""),
            "runtime": labels.get("container_runtime_version", ""),
        }
        known = {key: _text(value) for key, value in attrs.items() if value}
        self.node_attrs.setdefault(name, known)

    def _learn_pod(self, labels: Labels, *, current: bool) -> None:
        key = pod_of(labels)
        if key is None:
            return
        known = self.pods.get(key)
        if known is not None and known.current and not current:
            return
        node = _ksm_node(labels)
        if node:
            self._known.add(node)
            self._by_address.setdefault(labels.get("host_ip") or node, node)
        # Before March 2020 kube-state-metrics had no label host_network; on its node's network a
        # pod has the node's address.
        own = labels.get("pod_ip", "")
        on_host = own != "" and (own == labels.get("host_ip") or self._by_address.get(own) == node)
        kind, owner = labels.get("created_by_kind", ""), labels.get("created_by_name", "")
        self.pods[key] = PodFacts(
            node=node,
            owner=_text(f"{kind}/{owner}") if owner and owner != "<none>" else "",
            host_network=labels.get("host_network") == "true" or on_host
            if own or labels.get("host_network")
            else None,
            current=current,
        )

    def _learn_kubelets(self, kubelets: list[Labels]) -> None:
        """Learn addresses, and the nodes themselves where there is no kube-state-metrics."""
        alone = not self._known
        for labels in kubelets:
            host = host_of(labels.get("instance", ""))
            name = _name(_labelled_name(labels) or host)
            if alone and name:
                self._known.add(name)
            if name in self._known and host:
                self._by_address.setdefault(host, name)

    def _learn_machines(self) -> None:
        """Add what node-exporter reports about its machine where nothing better is known."""
        for group in self._unames.values():
            for labels in group:
                node = self.node_of({key: labels[key] for key in labels if key != "nodename"})
                if node is None:
                    continue
                attrs = self.node_attrs.setdefault(node, {})
                for key, label in (
                    ("hostname", "nodename"), ("kernel", "release"), ("arch", "machine"),
                ):  # fmt: skip
                    if labels.get(label):
                        attrs.setdefault(key, _text(labels[label]))


def pod_of(labels: Labels) -> tuple[str, str] | None:
    """Return the namespace and name of a series' pod; None if it has none.

    Raises:
        BadResponseError: a name is too long.
    """
    if "exported_pod" in labels:
        ns = labels.get("exported_namespace") or labels.get("namespace", "")
        name = labels["exported_pod"]
    else:
        ns, name = labels.get("namespace", ""), labels.get("pod", "")
    ns, name = clean_text(ns, "namespace", MAX_NAME), clean_text(name, "pod", MAX_NAME)
    return (ns, name) if ns and name else None


def host_of(instance: str) -> str:
    """Return the host of ``host:port``; an IPv6 address without its brackets."""
    host, colon, port = instance.rpartition(":")
    if colon and port.isdigit() and (":" not in host or host.startswith("[")):
        instance = host
    return instance.strip("[]")


def is_address(host: str) -> bool:
    """Return whether a host is an IP address, not a name."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def port_of(instance: str) -> str:
    """Return the port of ``host:port``; "" if it names none."""
    host, colon, port = instance.rpartition(":")
    return port if colon and port.isdigit() and (":" not in host or host.startswith("[")) else ""


def _ksm_node(labels: Labels) -> str:
    return _name(labels.get("exported_node") or labels.get("node", ""))


def _labelled_name(labels: Mapping[str, str]) -> str:
    return next((labels[label] for label in _NAME_LABELS if labels.get(label)), "")


def _short(name: str) -> str:
    return name.partition(".")[0].lower()


def _name(text: str) -> str:
    return clean_text(text, "node", MAX_NAME)


def _text(value: str) -> str:
    return clean_text(value[:_ENGINE_TEXT], "label", _ENGINE_TEXT)
