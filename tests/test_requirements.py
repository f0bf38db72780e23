"""The pinned requirements: every file by its hash, no address, installed no other way."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = ("agent", "server", "dev")
_PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==(\S+)(?: ; .+?)?$")
_INSTALL = re.compile(r"pip install.* -r ")
_PLACES = ("Makefile", "Dockerfile", ".ci", "README.md", "docs", "agent", "opscenter", "templates")
_TEXTS = {"", ".md", ".html", ".py", ".sh", ".yaml", ".service"}
_HASH = re.compile(r"^--hash=sha256:[0-9a-f]{64}$")


def entries(name: str) -> list[list[str]]:
    """Return the entries of a file, each as its pin and its hashes."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text().replace("\\\n", "\n")
    found: list[list[str]] = []
    for line in text.splitlines():
        if line[:1].isspace():
            found[-1].append(line.strip())
        elif line.strip():
            found.append([line.strip()])
    return found


@pytest.mark.parametrize("name", FILES)
def test_each_requirement_is_one_version_and_the_hashes_of_its_files(name):
    for pin, *hashes in entries(name):
        assert _PIN.match(pin), pin
        assert hashes, f"{pin} has no hash"
        assert all(map(_HASH.match, hashes)), pin


@pytest.mark.parametrize("name", FILES)
def test_the_requirements_name_no_address(name):
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    assert "://" not in text
    assert not re.search(r"^--(?!hash)", text, re.MULTILINE)


def test_what_several_files_ask_for_is_the_same():
    pins: dict[str, set[str]] = {}
    for name in FILES:
        for entry in entries(name):
            pins.setdefault(entry[0].partition("=")[0], set()).add(" ".join(entry))
    assert [name for name, found in pins.items() if len(found) > 1] == []


def test_everything_that_installs_requirements_checks_their_hashes():
    installs = []
    for top in _PLACES:
        for path in sorted((ROOT / top).rglob("*")) if (ROOT / top).is_dir() else [ROOT / top]:
            if path.suffix in _TEXTS and path.is_file():
                lines = path.read_text(encoding="utf-8").splitlines()
                name = str(path.relative_to(ROOT))
                installs += [(name, line) for line in lines if _INSTALL.search(line)]
    assert {name for name, _ in installs} >= {"Makefile", "Dockerfile", "agent/deploy/Dockerfile"}
    assert [found for found in installs if "--require-hashes" not in found[1]] == []
