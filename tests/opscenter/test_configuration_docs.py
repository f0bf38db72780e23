"""docs/configuration.md lists every environment variable that is read, and no other."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agent import config as agent_config
from tests.centre import clean_environment

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("opscenter", "clusters", "metrics", "agent")
DOCUMENT = ROOT / "docs" / "configuration.md"
READERS = {
    *("env_str", "env_bool", "env_int", "env_float", "env_choice", "env_list", "env_secret"),
    *("env_url", "env_redis", "env_host_port", "env_gateway_url", "env_postgres", "env_match"),
    *("env_former_keys", "env_hosts", "env_origins", "env_networks"),
}
SECRETS = ("env_secret", "env_postgres", "env_redis", "env_former_keys")
# Any text is valid for these, or errors show only when they are used: `manage.py up` checks them.
UNCHECKED = {
    *("OPSCENTER_DATA_DIR", "OPSCENTER_STATIC_ROOT"),
    *("OPSCENTER_ADMIN_PASSWORD", "OPSCENTER_ADMIN_PASSWORD_FILE"),
    *("DATABASE_PASSWORD", "DATABASE_PASSWORD_FILE"),
    *("INFLUXDB_ORG", "INFLUXDB_TOKEN"),
    *("OPSCENTER_HOST", "OPSCENTER_HUB_HOST", "OPSCENTER_HUB_HOST_KEY_FILE"),
}
NAME = re.compile(r"[A-Z][A-Z0-9_]{2,}\Z")


def is_environment(node: ast.expr) -> bool:
    """Return whether an expression is ``os.environ`` or a variable of that name."""
    return (isinstance(node, ast.Attribute) and node.attr == "environ") or (
        isinstance(node, ast.Name) and node.id in ("environ", "environment")
    )


def text(node: ast.expr) -> str | None:
    """Return a literal that can be the name of a variable."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and NAME.match(node.value):
        return node.value
    return None


def names_read_by(tree: ast.AST) -> Iterator[str]:
    """Yield the names that a module reads from the environment; a secret also with ``_FILE``."""
    for node in ast.walk(tree):
        name: str | None = None
        if isinstance(node, ast.Call) and node.args:
            called = node.func
            if isinstance(called, ast.Name) and called.id in READERS:
                name = text(node.args[0])
                if name and called.id in SECRETS:
                    yield f"{name}_FILE"
            elif isinstance(called, ast.Attribute) and (
                (called.attr in ("get", "pop") and is_environment(called.value))
                or called.attr == "getenv"
            ):
                name = text(node.args[0])
        elif isinstance(node, ast.Subscript) and is_environment(node.value):
            if isinstance(node.ctx, ast.Load):
                name = text(node.slice)
        elif isinstance(node, ast.Compare) and any(map(is_environment, node.comparators)):
            name = text(node.left)
        if name:
            yield name


def variables_read() -> set[str]:
    """Return every variable that the code reads."""
    found = {
        name
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        for name in names_read_by(ast.parse(path.read_text(encoding="utf-8")))
    }
    prefix = agent_config.PREFIX
    found |= {prefix + key.upper() for key in agent_config._READERS} | {f"{prefix}CONFIG"}
    return found | {f"{prefix}{key.upper()}_FILE" for key in agent_config._SECRETS}


def documented() -> list[str]:
    """Return the variables in the first column of every table of the document."""
    rows = re.findall(r"^\| (`[A-Z][^|]*) \|", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    return [name for row in rows for name in re.findall(r"`([A-Z][A-Z0-9_]+)`", row)]


def test_every_variable_that_is_read_is_documented():
    assert sorted(variables_read() - set(documented())) == []


def test_every_documented_variable_is_read():
    assert sorted(set(documented()) - variables_read()) == []


def test_no_variable_is_documented_twice():
    assert len(documented()) == len(set(documented()))


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ('env_int("OPS_A", 1, low=0, high=2)', {"OPS_A"}),
        ('env_secret("OPS_B")', {"OPS_B", "OPS_B_FILE"}),
        ('os.environ.get("OPS_C", "")', {"OPS_C"}),
        ('os.environ["OPS_D"]', {"OPS_D"}),
        ('"OPS_E" in os.environ', {"OPS_E"}),
        ('os.environ["OPS_F"] = "1"', set()),
        ('os.getenv("OPS_G")', {"OPS_G"}),
    ],
)
def test_the_collector_sees_every_way_to_read_one(source, names):
    assert set(names_read_by(ast.parse(source))) == names


def complaint(variable: str, directory: Path) -> str:
    """Return the settings' error for nonsense in a variable: its last line."""
    done = subprocess.run(
        [sys.executable, "-c", "import opscenter.settings"],
        env=clean_environment(OPSCENTER_DATA_DIR=str(directory), **{variable: "n0nsense %:??/-"}),
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    return done.stderr.strip().rsplit("\n", 1)[-1]


@pytest.mark.usefixtures("starts_servers")
def test_nonsense_in_any_variable_of_the_centre_is_refused_by_name(tmp_path):
    names = [
        name
        for name in documented()
        if name.startswith(("OPSCENTER_", "DATABASE_", "REDIS_", "METRICS_", "INFLUXDB_"))
        and not name.startswith("OPSCENTER_AGENT_")
        and name not in UNCHECKED
    ]
    with ThreadPoolExecutor(2) as pool:
        said = dict(
            zip(names, pool.map(lambda name: complaint(name, tmp_path), names), strict=True)
        )
    assert len(said) > 25
    assert {
        name: line for name, line in said.items() if f"ImproperlyConfigured: {name}" not in line
    } == {}
