"""What is shipped to run the agent."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

DEPLOY = Path(__file__).parents[2] / "agent" / "deploy"
DOCUMENTS = Path(__file__).parents[2] / "docs" / "agent.md"


@pytest.fixture(scope="module")
def objects():
    found = list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text()))
    return {thing["kind"]: thing for thing in found}


def test_the_role_allows_reading_numbers_and_nothing_else(objects):
    assert objects["ClusterRole"]["rules"] == [
        {"apiGroups": [""], "resources": ["nodes", "pods"], "verbs": ["list"]},
        {"apiGroups": [""], "resources": ["nodes/proxy"], "verbs": ["get"]},
    ]


def test_the_pod_fits_the_restricted_standard(objects):
    spec = objects["Deployment"]["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["limits"]["memory"]
    assert objects["Deployment"]["spec"]["strategy"]["type"] == "Recreate"
    assert objects["Deployment"]["spec"]["replicas"] == 1


def test_the_key_and_the_spool_survive_the_pod(objects):
    spec = objects["Deployment"]["spec"]["template"]["spec"]
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    mounts = {mount["mountPath"]: mount["name"] for mount in spec["containers"][0]["volumeMounts"]}
    claim = volumes[mounts["/data"]]["persistentVolumeClaim"]["claimName"]
    assert claim == objects["PersistentVolumeClaim"]["metadata"]["name"]


def test_every_forward_in_scripts_and_documents_names_its_target():
    # `-R name:port` without a target makes the client a SOCKS proxy into the customer's network.
    texts = [DOCUMENTS, *DEPLOY.rglob("*.sh"), *DEPLOY.rglob("*.yaml")]
    found = [
        forward
        for path in texts
        for forward in re.findall(r"(?<![\w`])-R\s+([\w\"$:.\[\]-]+)", path.read_text())
    ]
    assert found
    for forward in found:
        assert forward == '"$forward"' or forward.count(":") >= 3


@pytest.mark.parametrize("forward", ["agent:9099", "9099", "agent:9099:host"])
@pytest.mark.usefixtures("starts_servers")
def test_the_ssh_script_refuses_a_forward_without_a_target(tmp_path, forward):
    for name in ("key", "known_hosts"):
        (tmp_path / name).write_text("")
    environment = {
        "PATH": "/usr/bin:/bin",
        "OPSCENTER_SSH_HUB": "127.0.0.1:1",
        "OPSCENTER_SSH_CLUSTER": "x",
        "OPSCENTER_SSH_KEY": str(tmp_path / "key"),
        "OPSCENTER_SSH_KNOWN_HOSTS": str(tmp_path / "known_hosts"),
        "OPSCENTER_SSH_FORWARDS": forward,
    }
    script = str(DEPLOY / "openssh" / "opscenter-ssh-agent.sh")
    done = subprocess.run(
        ["sh", script], env=environment, capture_output=True, text=True, check=False, timeout=20
    )
    assert done.returncode == 2
    assert "does not read service:port:host:port" in done.stderr
