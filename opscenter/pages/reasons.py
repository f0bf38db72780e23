"""Reasons of health with links: a node's name leads to its page, "and 3 more" to the list."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from uuid import UUID

from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from clusters.health import Finding
from clusters.selectors import ClusterOverview
from opscenter.pages.times import text_with_times

_MORE = re.compile(r"and [\d,]+ more")
_NODE_OF = re.compile(r"(.+?)[ :]/")


def known_nodes(overview: ClusterOverview) -> set[str]:
    """Return the names of nodes that a cluster's reason may hold: the lost, the fullest."""
    fullest = (overview.fs_worst_name, overview.inodes_worst_name)
    found = {*overview.nodes_not_ready, *(m[1] for name in fullest if (m := _NODE_OF.match(name)))}
    return found | {name for one in overview.health.findings if (name := node_of(one))}


def node_of(finding: Finding) -> str:
    """Return the node that a finding is about; "" for the cluster as a whole."""
    what, _, rest = finding.key.partition(":")
    if what in ("filesystem", "inodes"):
        return rest.partition(":/")[0]
    return rest if what in ("node", "pressure", "no_numbers") else ""


def linked(text: str, cluster: UUID, nodes: Iterable[str], query: str = "") -> SafeString:
    """Return a text as HTML in which each name of a node is a link to its page.

    Everything is escaped, and each time is one that the page shows in its zone. A name counts only
    where it stands alone: ``node-1`` is not found in ``node-10``. "and 3 more" right after a name
    leads to the list of nodes.

    Args:
        text: the text, from anywhere.
        cluster: the cluster that it is about.
        nodes: names of its nodes; "" is ignored.
        query: query string for the links, such as the page's range; "" for none.
    """
    return format_html_join("", "{}", ((part,) for part in _parts(text, cluster, nodes, query)))


def _parts(text: str, cluster: UUID, nodes: Iterable[str], query: str) -> Iterator[str]:
    """Yield the text in pieces: those that are links as HTML, the others as they are."""
    names = sorted(filter(None, nodes), key=len, reverse=True)
    if not names:
        yield text_with_times(text)
        return
    alone = rf"(?<![\w.-])(?:{'|'.join(map(re.escape, names))})(?![\w-]|\.\w)"
    at = 0
    for found in re.finditer(alone, text):
        yield text_with_times(text[at : found.start()])
        yield _link(reverse("node", args=[cluster, found[0]]), query, found[0])
        at = found.end()
        more = _MORE.match(text, at + 1) if text[at : at + 1] == " " else None
        if more:
            yield " "
            rest = f"tab=nodes&{query}" if query else "tab=nodes"
            yield _link(reverse("cluster", args=[cluster]), rest, more[0])
            at = more.end()
    yield text_with_times(text[at:])


def _link(path: str, query: str, words: str) -> SafeString:
    return format_html(
        '<a class="link" href="{}">{}</a>', f"{path}?{query}" if query else path, words
    )
