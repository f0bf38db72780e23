"""The agent's configuration: what wins, and how a bad value is refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from agent import config as config_module
from agent.config import ConfigError, ListenAddress, load_config, unknown_variables
from agent.tunnel.targets import TcpTarget

FINGERPRINT = "SHA256:" + "a" * 43


def load(tmp_path, yaml="", overrides=None, **variables):
    environ = {f"OPSCENTER_AGENT_{name}": value for name, value in variables.items()}
    environ.setdefault("OPSCENTER_AGENT_DATA_DIR", str(tmp_path / "data"))
    if yaml:
        path = tmp_path / "agent.yaml"
        path.write_text(yaml)
        environ["OPSCENTER_AGENT_CONFIG"] = str(path)
    return load_config(environ, overrides)


def test_nothing_needs_to_be_set(tmp_path):
    config = load(tmp_path)
    assert config.sample_seconds == 15
    assert config.spool_max_mb == 512
    assert config.spool_max_days == 7
    assert config.listen == ListenAddress("127.0.0.1", 0)
    assert config.exit_after_seconds == 600
    assert config.ready_path == config.data_dir / "ready"


def test_the_command_line_wins_over_the_environment_and_that_over_the_file(tmp_path):
    yaml = "url: https://file\nnode_name: from-file\nlog_level: debug\n"
    config = load(tmp_path, yaml, {"url": "https://line"}, URL="https://env", LOG_LEVEL="ERROR")
    assert config.url == "https://line"
    assert config.log_level == "ERROR"
    assert config.node_name == "from-file"


def test_services_come_as_a_map_or_as_text(tmp_path):
    yaml = "services:\n  prometheus: prometheus.monitoring.svc:9090\n  etcd: '[::1]:2379'\n"
    targets = load(tmp_path, yaml).services.targets
    assert targets == {
        "prometheus": TcpTarget("prometheus.monitoring.svc", 9090),
        "etcd": TcpTarget("::1", 2379),
    }
    text = load(tmp_path, SERVICES="prometheus=10.0.0.1:9090, influxdb=db:8086")
    assert list(text.services.targets) == ["prometheus", "influxdb"]


def test_a_token_may_come_from_a_file_and_is_not_shown(tmp_path):
    secret = tmp_path / "token"
    secret.write_text("ocj_secret\n")
    config = load(tmp_path, TOKEN_FILE=str(secret))
    assert config.token == "ocj_secret"
    assert "ocj_secret" not in repr(config)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("URL", "ftp://x", "not an http or https address"),
        ("URL", "https://", "not an http or https address"),
        ("URL", "https://host:99999", "not an http or https address"),
        ("HUB_KEY", "MD5:aa", "not a fingerprint"),
        ("COLLECTOR", "magic", "not one of auto, host, kubelet"),
        ("LISTEN", "0.0.0.0:80", "not a loopback address"),
        ("LISTEN", "nonsense", "neither host:port nor the path"),
        ("LISTEN", "127.0.0.1:70000", "neither host:port nor the path"),
        ("SAMPLE_SECONDS", "often", "not a whole number"),
        ("SAMPLE_SECONDS", "7", "does not divide a minute"),
        ("SPOOL_MAX_MB", "0", "outside 1..100000"),
        ("SPOOL_MAX_DAYS", "-1", "outside 1..400"),
        ("SERVICES", "prometheus", "does not read service=host:port"),
        ("SERVICES", "agent=1.2.3.4:5", "cannot be set"),
        ("SERVICES", "ssh=1.2.3.4:22", "not a known service"),
        ("SERVICES", "etcd=host", "must read host:port"),
        ("SERVICES", "etcd=host:0", "must read host:port"),
        ("SERVICES", "etcd=*:2379", "must read host:port"),
        ("SERVICES", "etcd=a:1,etcd=b:1", "named twice"),
        ("LOG_LEVEL", "loud", "not one of"),
        ("TRANSPORT", "pigeon", "not one of auto, tcp, ws"),
        ("EXIT_AFTER_SECONDS", "1e3", "not a whole number"),
        ("TOKEN_FILE", "/nonexistent/token", "cannot be read"),
        ("CONFIG", "/nonexistent.yaml", "cannot be read"),
    ],
)
def test_a_bad_value_is_one_line_that_names_its_variable(tmp_path, name, value, words):
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, **{name: value})
    line = str(caught.value)
    assert f"OPSCENTER_AGENT_{name}" in line
    assert words in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("yaml", "words"),
    [
        ("colector: host", "'colector' is not a known key"),
        ("- a\n- b", "must hold names and values"),
        ("a: [", "is not YAML"),
        ("sample_seconds: true", "sample_seconds: 'True' is not a whole number"),
        ("sample_seconds: 15.0", "is not a whole number"),
        ("url: 5", "url: must be text"),
        ("services: [a]", "must be a map"),
        ("services: {etcd: 2379}", "must read host:port"),
        ("services: {1: a}", "not a known service"),
    ],
)
def test_a_bad_file_is_one_line_that_names_the_file_and_key(tmp_path, yaml, words):
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, yaml)
    assert "agent.yaml" in str(caught.value)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_misspelt_variables_are_found():
    environ = {"OPSCENTER_AGENT_TOKKEN": "x", "OPSCENTER_AGENT_TOKEN_FILE": "y", "HOME": "z"}
    assert unknown_variables(environ) == ["OPSCENTER_AGENT_TOKKEN"]


def test_the_instance_tells_machines_and_directories_apart_and_survives_a_restart(tmp_path):
    here = load(tmp_path, NODE_NAME="a").instance
    assert re.fullmatch(r"[0-9a-f]{16}", here)
    assert load(tmp_path, NODE_NAME="a").instance == here
    assert load(tmp_path, NODE_NAME="b").instance != here
    assert load(tmp_path, NODE_NAME="a", DATA_DIR="/elsewhere").instance != here


def test_every_variable_is_in_the_documentation():
    text = (Path(__file__).parents[2] / "docs" / "agent.md").read_text()
    for key in [*config_module._READERS, "config"]:
        assert f"`OPSCENTER_AGENT_{key.upper()}`" in text
