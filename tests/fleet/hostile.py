"""Names that attack pages and terminals that show them: markup, formulas, control characters,
right-to-left.

Each holds the word MARK so that a test finds what has become of it.
"""

from __future__ import annotations

from typing import Any

MARK = "hostile"
HOSTILE = (
    f"<script>alert('{MARK}')</script>",
    f'"><img src=x onerror=alert("{MARK}")>',
    f"'-alert(`{MARK}`)-'",
    f'=HYPERLINK("http://{MARK}.invalid","{MARK}")',
    f"+cmd|' /C {MARK}'!A0",
    f"<a href='http://{MARK}.invalid/'>{MARK}</a>",
    f"{MARK}\x00\x07\x1b[31m\r\nSet-Cookie: {MARK}=1",
    f"\u202e{MARK}\u2066\u200b\ufeffgnp.exe",
    f"\u0634\u0628\u0643\u0629 {MARK} \u05e8\u05e9\u05ea",
    f"{{{{ {MARK} }}}}{{% csrf_token %}}%s%n${{{MARK}}}",
    f"../../{MARK}/..%2f?tab=settings#x&amp;y;z",
    f"{MARK}{'W' * 240}",
    f"</title></textarea></style><svg onload=alert('{MARK}')>",
    f"@SUM({MARK})\t=1+1",
    f'{MARK};=HYPERLINK("http://{MARK}.invalid")',
    f"{MARK}|@SUM(1)\t-2+cmd",
    f"\uff1dHYPERLINK({MARK});\uff0b1;\uff0d1;\uff20SUM(1)",
    f"  =cmd|{MARK}",
    f"\"=1+{MARK}\",'=2+{MARK}'",
)
"""None is longer than the 253 characters that are accepted; longer ones are refused whole."""


def rename(nodes: list[Any], filesystems: list[Any], pods: list[Any]) -> None:
    """Replace the names of an answer's series, each node by the same name everywhere."""
    names = {}
    for index, series in enumerate(nodes):
        bad = HOSTILE[index % len(HOSTILE)]
        names[series["name"]] = series["name"] = (
            bad if index < len(HOSTILE) else f"{bad[:200]}{index}"
        )
        series["attrs"] = {HOSTILE[0]: HOSTILE[1], "os": HOSTILE[5], "roles": HOSTILE[8]}
    for index, series in enumerate(filesystems):
        series["ns"] = names.get(series["ns"], series["ns"])
        series["name"] = f"/{HOSTILE[index % len(HOSTILE)]}"[:253]
    for index, series in enumerate(pods):
        series["node"] = names.get(series["node"], series["node"])
        series["name"] = _name(index)
        series["ns"] = HOSTILE[(index + 1) % len(HOSTILE)]
        series["attrs"] = {"owner": HOSTILE[12], "status": HOSTILE[1]}


def _name(index: int) -> str:
    """Return one of the names, with a number where they begin again."""
    name = HOSTILE[index % len(HOSTILE)]
    return name if index < len(HOSTILE) else f"{name[:200]}{index}"
