"""The settings as ``manage.py check --deploy`` sees them, and on other kinds of centre."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHOW = """
import json, sys
import django
django.setup()
from django.conf import settings
json.dump({name: getattr(settings, name) for name in sys.argv[1:]}, sys.stdout)
"""


def run(arguments: list[str], directory: Path, **variables: str) -> subprocess.CompletedProcess:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OPSCENTER_")}
    environment = kept | {
        "OPSCENTER_DATA_DIR": str(directory / "data"),
        "DJANGO_SETTINGS_MODULE": "opscenter.settings",
        **variables,
    }
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def shown(directory: Path, *names: str, **variables: str) -> dict:
    result = run(["-c", SHOW, *names], directory, **variables)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.mark.usefixtures("starts_servers")
def test_a_centre_behind_tls_passes_the_deployment_check_without_a_warning(tmp_path):
    result = run(
        ["manage.py", "check", "--deploy", "--fail-level", "WARNING"],
        tmp_path, OPSCENTER_PUBLIC_URL="https://ops.example.org",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "WARNING" not in result.stdout + result.stderr


@pytest.mark.usefixtures("starts_servers")
def test_behind_tls_cookies_are_bound_and_loopback_pages_are_not_trusted(tmp_path):
    found = shown(
        tmp_path, "SESSION_COOKIE_NAME", "CSRF_COOKIE_SECURE", "TRUSTED_ORIGINS",
        "TRUSTED_PROXIES", "HUB_TRUSTED_PROXIES", OPSCENTER_PUBLIC_URL="https://ops.example.org",
    )  # fmt: skip
    assert found["SESSION_COOKIE_NAME"].startswith("__Host-")
    assert found["CSRF_COOKIE_SECURE"]
    assert found["TRUSTED_ORIGINS"] == ["https://ops.example.org"]
    assert found["TRUSTED_PROXIES"] == ["127.0.0.1", "::1"]
    assert found["HUB_TRUSTED_PROXIES"] == ["127.0.0.1", "::1"]


@pytest.mark.usefixtures("starts_servers")
def test_a_centre_for_this_machine_alone_trusts_no_forwarded_address(tmp_path):
    found = shown(tmp_path, "TRUSTED_PROXIES", "HUB_TRUSTED_PROXIES")
    assert found == {"TRUSTED_PROXIES": [], "HUB_TRUSTED_PROXIES": []}


@pytest.mark.parametrize("name", ["OPSCENTER_TRUSTED_PROXIES", "OPSCENTER_HUB_TRUSTED_PROXIES"])
@pytest.mark.usefixtures("starts_servers")
def test_a_proxy_that_is_no_address_is_refused_by_the_name_of_its_variable(tmp_path, name):
    result = run(["manage.py", "up"], tmp_path, **{name: "my-proxy"})
    assert result.returncode != 0
    assert f"{name}: 'my-proxy' is no address or network" in result.stderr


def test_plain_http_is_redirected_to_https_except_for_this_machine(client, settings, db):
    settings.SECURE_SSL_REDIRECT = True
    assert client.get("/accounts/login/").status_code == 301
    assert client.get("/accounts/login/", secure=True).status_code == 200
    assert client.get("/healthz").status_code == 200
    assert client.post("/api/v1/agents/enrol").status_code != 301
