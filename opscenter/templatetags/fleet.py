"""The tiles of the fleet's grid: made here and by no template, because a page has hundreds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from html import escape
from uuid import UUID

from django import template
from django.urls import reverse
from django.utils.safestring import SafeString

from clusters.selectors import ClusterOverview
from opscenter.pages import format as fmt
from opscenter.pages.notes import Note
from opscenter.templatetags.ops import age_at, bar

register = template.Library()

_ANY = UUID(int=0)


@register.simple_tag(takes_context=True)
def tiles(context: template.Context, overviews: Iterable[ClusterOverview]) -> SafeString:
    """Return a tile for each cluster: its state, name, nodes, use of CPU and memory, and notes.

    Args:
        context: the template's, with ``now`` and ``notes`` (cluster -> its notes).
        overviews: the clusters, in the order of the grid.
    """
    return SafeString("".join(_tiles(context, overviews, oob=False)))


@register.simple_tag(takes_context=True)
def tile(context: template.Context, overview: ClusterOverview, *, oob: bool = False) -> SafeString:
    """Return one tile, as :func:`tiles`; with ``oob``, to replace that of an open page."""
    return SafeString("".join(_tiles(context, [overview], oob=oob)))


def _tiles(
    context: template.Context, overviews: Iterable[ClusterOverview], *, oob: bool
) -> Iterator[str]:
    notes, now = context["notes"], context["now"]
    link = reverse("cluster", args=[_ANY])  # once: it takes longer than all else of a tile
    for one in overviews:
        address = link.replace(str(_ANY), str(one.id))
        yield _tile(one, notes.get(one.id, ()), now, address, oob=oob)


def _tile(
    overview: ClusterOverview, notes: Sequence[Note], now: datetime, address: str, *, oob: bool
) -> str:
    """Return one tile as HTML; whatever came from elsewhere is escaped."""
    state = overview.health.state
    name = escape(overview.name)
    reason = f": {escape(overview.health.reason)}" if overview.health.reason else ""
    told = "".join(f"; {escape(note.text)}" for note in notes)
    tags = '<span class="tag sim">simulated</span>' if overview.simulated else ""
    tags += "".join(f'<span class="tag">{escape(note.word)}</span>' for note in notes)
    return f"""<li id="tile-{overview.id}" class="tile {state}" data-row \
data-cluster="{overview.id}" data-placed="{state}"{' hx-swap-oob="true"' if oob else ""}>
  <a id="tile-open-{overview.id}" href="{address}" title="{name}{reason}{told}" \
data-local-title>
    <span class="n">
      <span class="st {state}">
        <i aria-hidden="true">{fmt.glyph(state)}</i>
        <span class="sr">{fmt.word(state)}:</span>
      </span>
      <span class="name">{name}</span>
    </span>
    <span class="r">
      <span>{_nodes(overview.nodes_total)}</span>
      <span>{_figures(overview, now)}</span>
    </span>
    {bar(overview.cpu_ratio)}
    {bar(overview.mem_ratio, "mem")}
    {tags}
  </a>
</li>
"""


def _nodes(total: int | None) -> str:
    return "no data" if total is None else f"{total} node{'' if total == 1 else 's'}"


def _figures(overview: ClusterOverview, now: datetime) -> str:
    """Return CPU and memory of a cluster that reports; of another its state, or since when."""
    state, since = overview.health.state, overview.health.since
    if state == "unknown":
        return f"for {age_at(now, since)}" if since else "unknown"
    if overview.reporting:
        return f"{fmt.percent(overview.cpu_ratio)} · {fmt.percent(overview.mem_ratio)}"
    return fmt.word(state)
