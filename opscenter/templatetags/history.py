"""The cells of the fleet's history."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from django import template
from django.urls import reverse
from django.utils.safestring import SafeString, mark_safe

from clusters.health import WORST_FIRST
from clusters.history import StatePart
from opscenter.core.text import minute_utc
from opscenter.pages import format as fmt

register = template.Library()


@register.simple_tag
def hour_cells(cluster_id: UUID, cells: Sequence[StatePart]) -> SafeString:
    """Return a link for each hour, to the cluster's history of that hour.

    A cell is colour, pattern and glyph; its name says the hour and the state. The keyboard goes
    through rows, not through cells: the row's own link shows the same hours.
    """
    address = reverse("cluster", args=[cluster_id])
    links = []
    for cell in cells:
        known = cell.state in WORST_FIRST
        css = cell.state if known else "none"
        word = fmt.word(cell.state) if known else "not recorded"
        links.append(
            f'<a class="{css}" tabindex="-1" data-span-title'
            f' data-start="{cell.start}" data-end="{cell.end}"'
            f' href="{address}?tab=history&amp;start={cell.start}&amp;end={cell.end}"'
            f' title="{word}" aria-label="{minute_utc(cell.start)}: {word}"></a>'
        )
    return mark_safe("".join(links))  # noqa: S308 - an address, numbers and constant words
