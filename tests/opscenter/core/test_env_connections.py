"""What the addresses of PostgreSQL and Redis say is passed on, or refused by name."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured
from kombu import Connection
from redis import Redis

from opscenter.core.env_connections import env_postgres, env_redis
from tests.agent.tls import make_tls
from tests.centre import ROOT, clean_environment, free_ports, wait_until
from tests.postgresql import private_postgresql

DB = "postgres://ops:s3cret@db/ops"


def test_a_postgres_address_is_taken_apart_and_decoded(monkeypatch):
    monkeypatch.setenv("DB", "postgres://ops:p%40ss@db:5433/ops%2Dcenter")
    assert env_postgres("DB") == {
        "NAME": "ops-center", "USER": "ops", "PASSWORD": "p@ss", "HOST": "db", "PORT": "5433",
        "OPTIONS": {},
    }  # fmt: skip


def test_a_postgres_password_may_be_a_secret_of_its_own(monkeypatch, tmp_path):
    (tmp_path / "password").write_text("from-a-file\n")
    monkeypatch.setenv("DB", "postgresql://ops@db/ops")
    monkeypatch.setenv("DATABASE_PASSWORD_FILE", str(tmp_path / "password"))
    found = env_postgres("DB")
    assert (found["PASSWORD"], found["PORT"]) == ("from-a-file", "")


def test_no_postgres_address_is_none_or_refused_by_name(monkeypatch):
    monkeypatch.delenv("DB", raising=False)
    assert env_postgres("DB") is None
    for value in (
        "mysql://db/ops",
        "postgres://db",
        "postgres://db/",
        "postgres://a:b@db:x/o",
        "postgres://a:b@db:0/o",
        "postgres://a:b@db:1,e:70000/o",
        "postgres://a:b#c@d/o",
    ):
        monkeypatch.setenv("DB", value)
        with pytest.raises(ImproperlyConfigured, match="DB must read postgres://user:password@"):
            env_postgres("DB")


@pytest.mark.parametrize(
    ("hosts", "host", "port"),
    [
        ("one,two", "one,two", ""),
        ("one:5432,two:5433", "one,two", "5432,5433"),
        ("one,two:5433", "one,two", ",5433"),
        ("[::1]:5432,two", "::1,two", "5432,"),
        ("%2Frun%2Fpg", "/run/pg", ""),
        ("", "", ""),
    ],
)
def test_several_hosts_are_passed_on(monkeypatch, hosts, host, port):
    monkeypatch.setenv("DB", f"postgres://ops:x@{hosts}/ops?target_session_attrs=read-write")
    found = env_postgres("DB")
    assert (found["HOST"], found["PORT"]) == (host, port)
    assert found["OPTIONS"] == {"target_session_attrs": "read-write"}


def test_what_a_connection_needs_is_passed_on(monkeypatch, tmp_path):
    for name in ("root", "cert", "key"):
        (tmp_path / name).touch()
    asked = {
        "sslmode": "verify-full", "sslrootcert": f"{tmp_path}/root", "sslcert": f"{tmp_path}/cert",
        "sslkey": f"{tmp_path}/key", "options": "-c search_path=ops", "connect_timeout": "5",
        "target_session_attrs": "primary",
    }  # fmt: skip
    query = "&".join(f"{key}={value}".replace(" ", "%20") for key, value in asked.items())
    monkeypatch.setenv("DB", f"{DB}?{query}")
    assert env_postgres("DB")["OPTIONS"] == asked
    monkeypatch.setenv("DB", f"{DB}?sslmode=verify-full&sslrootcert=system")
    assert env_postgres("DB")["OPTIONS"]["sslrootcert"] == "system"


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("ssl=true", "'ssl' is not known"),
        ("sslmode=require&sslmod=x", "'sslmod' is not known"),
        ("application_name=x", "'application_name' is not known"),
        ("sslmode=on", "sslmode='on' is not one of"),
        ("sslmode=", "sslmode has no value"),
        ("sslmode", "sslmode has no value"),
        ("sslmode=require&sslmode=disable", "sslmode is given twice"),
        ("sslrootcert=/no/such/file", "sslrootcert='/no/such/file' cannot be read"),
        ("connect_timeout=soon", "connect_timeout is a number"),
        ("target_session_attrs=best", "target_session_attrs='best' is not one of"),
    ],
)
def test_what_is_not_passed_on_is_refused_by_name(monkeypatch, query, said):
    monkeypatch.setenv("DB", f"{DB}?{query}")
    with pytest.raises(ImproperlyConfigured, match=said) as caught:
        env_postgres("DB")
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "broker", "tls"),
    [
        ("redis://:pw@r:6380/2", "redis://:pw@r:6380/2", {}),
        ("unix:///run/r.sock", "redis+socket:///run/r.sock", {}),
        ("rediss://r/0", "rediss://r/0", {"ssl_cert_reqs": "required"}),
        (
            "rediss://r/0?ssl_ca_certs=/dev/null",
            "rediss://r/0",
            {"ssl_ca_certs": "/dev/null", "ssl_cert_reqs": "required"},
        ),
    ],
)
def test_a_redis_address_is_for_every_library(monkeypatch, url, broker, tls):
    monkeypatch.setenv("R", url)
    found = env_redis("R", "unix:///default")
    assert (found.url, found.broker_url, found.tls) == (url, broker, tls)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://r/0?ssl_ca_certs=/dev/null", "'ssl_ca_certs' is not known; there are none"),
        ("rediss://r/0?ssl_cert_reqs=none", "ssl_cert_reqs can only be required"),
        ("rediss://r/0?timeout=1", "'timeout' is not known"),
        ("unix:///r.sock?db=3", "'db' is not known"),
        ("redis://r/zero", "the path is the number of a database"),
        ("redis://r:x/0", "R must read redis://"),
        ("http://r/0", "R must read redis://"),
        ("unix://", "R must read redis://"),
        ("redis://:s3#cret@r/0", "R must read redis://"),
    ],
)
def test_no_redis_address_is_refused_by_name(monkeypatch, url, said):
    monkeypatch.setenv("R", url)
    with pytest.raises(ImproperlyConfigured, match=said) as caught:
        env_redis("R", "unix:///default")
    assert "s3" not in str(caught.value)


@contextmanager
def tls_redis(directory: Path) -> Iterator[tuple[int, Path]]:
    """Run a Redis that speaks TLS alone; yield its port and the file of its authority."""
    _, authority = make_tls(directory, "localhost")
    (port,) = free_ports(1)
    command = [
        "redis-server", "--port", "0", "--tls-port", str(port), "--tls-cert-file", str(authority),
        "--tls-key-file", str(directory / "server.key"), "--tls-auth-clients", "no",
        "--tls-ca-cert-file", str(authority), "--save", "", "--dir", str(directory),
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            wait_until(lambda: _accepts(port), "Redis listens")
            yield port, authority
        finally:
            process.terminate()


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def run(command: str, tmp_path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the centre to its end."""
    return subprocess.run(
        [sys.executable, str(ROOT / "manage.py"), *command.split()],
        env=clean_environment(OPSCENTER_DATA_DIR=str(tmp_path / "data"), **environment),
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


@pytest.mark.usefixtures("starts_servers")
def test_a_server_without_tls_is_refused_where_tls_is_required(tmp_path):
    with private_postgresql(tcp=True) as url:
        assert run("check --database default", tmp_path, DATABASE_URL=url).returncode == 0
        done = run("showmigrations", tmp_path, DATABASE_URL=f"{url}?sslmode=require")
    assert done.returncode == 2
    assert done.stderr.startswith("manage.py: DATABASE_URL: ")
    assert "server does not support SSL" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.usefixtures("starts_servers")
@pytest.mark.parametrize(
    "command", ["prepare", "verify_audit", "create_token x --user admin", "up --only web"]
)
def test_a_wrong_password_is_one_line(command, tmp_path, password_server, redis_server):
    url = password_server.replace("//opscenter@", "//opscenter:s3cret@")
    done = run(command, tmp_path, DATABASE_URL=url, REDIS_URL=redis_server)
    assert done.returncode == 2
    assert "DATABASE_URL: " in done.stderr
    assert "password authentication failed" in done.stderr
    assert done.stderr.count("\n") == 1
    assert "s3cret" not in done.stdout + done.stderr


@pytest.fixture(scope="module")
def password_server():
    with private_postgresql(tcp=True, password="the-right-one") as url:
        yield url


@pytest.mark.usefixtures("starts_servers")
def test_a_redis_with_tls_is_used_by_every_library_and_checked(tmp_path, monkeypatch):
    with tls_redis(tmp_path) as (port, authority):
        monkeypatch.setenv("R", f"rediss://localhost:{port}/0?ssl_ca_certs={authority}")
        good = env_redis("R", "")
        assert Redis.from_url(good.url).ping()
        with Connection(good.broker_url, ssl=good.tls) as broker:
            broker.ensure_connection(max_retries=1)
            assert broker.default_channel.client.ping()
        monkeypatch.setenv("R", f"rediss://localhost:{port}/0")
        done = run("up --only worker", tmp_path, REDIS_URL=os.environ["R"])
        assert done.returncode == 2
        assert "certificate verify failed" in done.stderr
        assert done.stderr.count("\n") == 1
