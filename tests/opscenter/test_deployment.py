"""docker-compose.yml, Dockerfile and their companions: what can be checked without a daemon."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.conf import settings

from opscenter.processes.definitions import NAMES
from tests.opscenter.test_configuration_docs import documented

ROOT = Path(__file__).resolve().parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = ("migrate", "web", "hub", "worker", "beat")


def test_every_process_of_the_centre_is_a_service():
    assert set(SERVICES) == {"postgres", *OURS, "redis", "influxdb"}
    assert {"web", "hub", "worker", "beat"} < set(NAMES)
    for name in ("web", "hub", "worker", "beat"):
        assert SERVICES[name]["command"] == ["up", "--only", name]


@pytest.mark.parametrize("name", SERVICES)
def test_no_service_runs_as_root(name):
    user = str(SERVICES[name]["user"])
    assert user
    assert user.partition(":")[0] not in ("0", "root")


@pytest.mark.parametrize("name", OURS)
def test_our_containers_are_locked_down(name):
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["image"] == SERVICES["web"]["image"]


@pytest.mark.parametrize("name", [name for name in SERVICES if name != "migrate"])
def test_every_service_that_stays_has_a_health_check(name):
    assert SERVICES[name]["healthcheck"]["test"][0] == "CMD"


@pytest.mark.parametrize("name", ["web", "hub", "worker", "beat"])
def test_health_checks_of_ours_start_no_django(name):
    check = SERVICES[name]["healthcheck"]["test"]
    assert check == ["CMD", "python", "-I", "-S", "opscenter/probe.py", name]
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    (image,) = [line for line in lines if line.startswith("HEALTHCHECK ")]
    assert image.endswith('CMD ["python", "-I", "-S", "opscenter/probe.py"]')


def test_every_secret_is_a_file_and_none_is_written_down():
    for secret in COMPOSE["secrets"].values():
        assert set(secret) == {"file"}
    for name, service in SERVICES.items():
        for variable, value in service.get("environment", {}).items():
            if re.search("PASSWORD|SECRET|TOKEN", variable):
                assert variable.endswith("_FILE"), (name, variable)
                assert value.rpartition("/")[2] in service["secrets"], (name, variable)
            assert not re.search(r"://[^/@]*:[^/@]*@", str(value)), (name, variable)


@pytest.mark.parametrize("name", OURS)
def test_our_services_are_given_only_variables_that_exist(name):
    assert set(SERVICES[name]["environment"]) <= set(documented())


@pytest.mark.parametrize("name", ["web", "hub", "worker", "beat"])
def test_processes_wait_for_the_schema(name):
    needs = SERVICES[name]["depends_on"]
    assert needs["migrate"]["condition"] == "service_completed_successfully"
    assert needs["redis"]["condition"] == "service_healthy"
    assert needs["influxdb"]["condition"] == "service_healthy"


def test_ports_are_published_on_this_host_alone_by_default():
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(ports) == 3
    assert all(port.startswith("${PUBLISH_ADDRESS:-127.0.0.1}:") for port in ports)


def test_named_volumes_hold_everything_that_must_stay():
    assert set(COMPOSE["volumes"]) == {"data", "postgres", "influxdb", "influxdb-config"}


def test_the_example_environment_names_what_compose_reads():
    text = (ROOT / "docker-compose.yml").read_text()
    read = set(re.findall(r"\$\{([A-Z_]+)", text))
    example = set(re.findall(r"^([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert read == example


def test_the_image_is_built_in_stages_and_does_not_run_as_root():
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    assert sum(line.startswith("FROM ") for line in lines) == 2
    users = [line.split()[1] for line in lines if line.startswith("USER ")]
    assert users == ["10001:10001"]
    copied = [
        line.split()[1] for line in lines if line.startswith("COPY ") and "--from" not in line
    ]
    allowed = (ROOT / ".dockerignore").read_text()
    for name in copied:
        assert (ROOT / name).exists(), name
        assert f"!{name.partition('/')[0]}" in allowed, name


@pytest.mark.usefixtures("starts_servers")
def test_secrets_are_made_once_in_a_directory_of_their_owner(tmp_path):
    def make() -> dict[str, str]:
        subprocess.run(
            ["make", "--silent", "secrets", f"SECRETS_DIR={tmp_path / 's'}"],
            cwd=ROOT, check=True, capture_output=True,
        )  # fmt: skip
        return {path.name: path.read_text() for path in (tmp_path / "s").iterdir()}

    made = make()
    assert set(made) == set(COMPOSE["secrets"])
    assert made.pop("former_secret_keys") == ""
    assert all(len(value.strip()) >= 40 for value in made.values())
    assert (tmp_path / "s").stat().st_mode & 0o777 == 0o700
    assert make() == {**made, "former_secret_keys": ""}


def test_the_version_is_one_and_the_changelog_knows_what_is_next():
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert "## [Unreleased]" in changelog
    released = re.findall(r"^## \[(\d+\.\d+\.\d+)\]", changelog, re.MULTILINE)
    assert re.fullmatch(r"\d+\.\d+\.\d+", settings.VERSION)
    assert not released or released[0] == settings.VERSION
    assert settings.SPECTACULAR_SETTINGS["VERSION"] == settings.VERSION


def test_the_licence_is_the_whole_apache_licence():
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text
    assert 'license = "Apache-2.0"' in (ROOT / "pyproject.toml").read_text()
