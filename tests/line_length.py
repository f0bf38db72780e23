"""``python -m tests.line_length``: no line of a stylesheet, a script or a template is too long.

ruff checks Python; djlint measures lines only where it formats, which it may not do here, as it
would add spaces to text.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

LIMIT = 120
ROOT = Path(__file__).resolve().parents[1]
PATTERNS = ("static/**/*.css", "static/**/*.js", "templates/**/*.html")


def long_lines(root: Path = ROOT) -> Iterator[str]:
    """Yield "path:line: length" of each line under ``root`` with more than ``LIMIT`` characters."""
    for path in sorted(path for pattern in PATTERNS for path in root.glob(pattern)):
        for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1):
            if len(line) > LIMIT:
                yield f"{path.relative_to(root)}:{number}: {len(line)} characters, over {LIMIT}"


def main() -> int:
    """Print the lines that are too long; return 1 if there is one."""
    found = list(long_lines())
    for line in found:
        print(line)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
