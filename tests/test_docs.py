"""The documents name files and modules that exist."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(ROOT.glob("docs/**/*.md"))]
FOLDERS = "agent|clusters|docs|metrics|opscenter|requirements|static|templates|tests"
LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")
PATH = re.compile(rf"(?<![\w./{{}}<>$-])(?:{FOLDERS})/[\w./-]*\w/?")
FILE_NAME = re.compile(r"`([\w-]+\.(?:py|js|css|html|sh))`")
FORMER = "## Former names"  # names what is gone, on purpose
MODULE = re.compile(r"`((?:agent|clusters|metrics|opscenter)(?:\.\w+){2,})\b")


def broken_paths(document: Path, text: str) -> Iterator[str]:
    """Yield the links and paths of a document that lead nowhere."""
    for target in LINK.findall(text):
        if "://" not in target and not (document.parent / target).exists():
            yield target
    for path in PATH.findall(LINK.sub("", text)):
        if not (ROOT / path).exists():
            yield path


def is_module_or_name(dotted: str) -> bool:
    """Return whether a dotted name is a package, a module or a name that a module has."""
    path, parts = ROOT, dotted.split(".")
    while parts and (path / parts[0]).is_dir():
        path /= parts.pop(0)
    if not parts:
        return True
    module = path / f"{parts.pop(0)}.py"
    if not module.exists():
        module, parts = path / "__init__.py", [module.stem, *parts]
    return not parts or bool(re.search(rf"\b{parts[0]}\b", module.read_text(encoding="utf-8")))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_path_that_a_document_names_exists(document):
    text = document.read_text(encoding="utf-8").partition(FORMER)[0]
    assert list(broken_paths(document, text)) == []


def test_every_file_name_and_module_that_the_documents_name_exists():
    files = {path.name for folder in FOLDERS.split("|") for path in (ROOT / folder).rglob("*.*")}
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        assert [name for name in FILE_NAME.findall(text) if name not in {*files, "manage.py"}] == []
        assert [name for name in MODULE.findall(text) if not is_module_or_name(name)] == []
