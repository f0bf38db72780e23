"""Modules that the import contracts call pure are so when an interpreter imports them."""

from __future__ import annotations

import pkgutil
import subprocess
import sys
import tomllib
from importlib import import_module

import pytest

from tests.centre import ROOT

CONTRACT = "Pure modules know no Django, network or clock, nor does what they import"
# Their __init__ needs Django: of the stores and queries to find the store, of budgets for Redis.
_WITHOUT_PACKAGE = ("metrics.query", "metrics.stores", "opscenter.core.budgets")
_IMPORT = """
import sys, types
for name in {packages!r}:
    package = types.ModuleType(name)
    package.__path__ = [name.replace(".", "/")]
    sys.modules[name] = package
started_with = set(sys.modules)
import {module}
print(*sorted((set(sys.modules) - started_with) & set({forbidden!r})))
"""


def _contract() -> dict[str, list[str]]:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    return next(one for one in contracts["contracts"] if one["name"] == CONTRACT)


def _pure_modules() -> list[str]:
    """Return the modules of the contract, and of its packages every module."""
    found = []
    for name in _contract()["source_modules"]:
        path = ROOT / name.replace(".", "/")
        found.append(name)
        if path.is_dir():
            found += [f"{name}.{one.name}" for one in pkgutil.iter_modules([str(path)])]
    return found


@pytest.mark.usefixtures("starts_servers")
@pytest.mark.parametrize("module", _pure_modules())
def test_a_pure_module_loads_neither_django_nor_network_nor_clock(module: str):
    # "time" is part of every interpreter: who imports it by name is the contract's affair.
    forbidden = [name for name in _contract()["forbidden_modules"] if name != "time"]
    code = _IMPORT.format(packages=_WITHOUT_PACKAGE, module=module, forbidden=forbidden)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


def test_the_contract_names_modules_that_exist():
    for name in _pure_modules():
        assert import_module(name)
