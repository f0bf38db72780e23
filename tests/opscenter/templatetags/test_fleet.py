"""Tiles: what they say of a cluster, and that nothing that came from elsewhere is trusted."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from clusters.models import Cluster
from clusters.selectors import cluster_overview
from opscenter.pages.notes import Note
from opscenter.templatetags.fleet import tile, tiles
from tests.factories import ClusterFactory, healthy

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
EVIL = "</a><img src=x onerror=alert(1)>\"'&"


def overview(name="north-1", **columns):
    return cluster_overview(ClusterFactory(name=name, **columns), NOW)


def words(made: str) -> str:
    return " ".join(made.split())


def drawn(one, notes=(), **options) -> str:
    return words(tile({"now": NOW, "notes": {one.id: notes}}, one, **options))


def test_a_tile_says_state_name_nodes_and_use():
    one = overview(**healthy(NOW, nodes_total=1, nodes_ready=1, cpu_share=0.5, mem_share=0.95))
    text = drawn(one)
    assert f'<li id="tile-{one.id}" class="tile degraded" data-row data-cluster="{one.id}"' in text
    assert f'<a id="tile-open-{one.id}" href="/clusters/{one.id}/"' in text
    assert '<span class="sr">degraded:</span>' in text
    assert '<span class="name">north-1</span>' in text
    assert "<span>1 node</span>" in text
    assert "<span>50 % · 95 %</span>" in text
    assert '<span class="bar "><s style="width:50.0%"></s></span>' in text
    assert '<span class="bar mem high"><s style="width:95.0%"></s></span>' in text
    assert "hx-swap-oob" not in text
    assert 'data-placed="degraded" hx-swap-oob="true">' in drawn(one, oob=True)


def test_a_tile_of_a_silent_cluster_says_for_how_long_instead_of_old_numbers():
    one = overview(**healthy(NOW - timedelta(minutes=30), tunnel_up=False))
    text = drawn(one)
    assert "%" not in text.partition("</a>")[0].partition('<span class="r">')[2].partition("bar")[0]
    assert "for <time" in text


def test_a_tile_of_a_cluster_that_never_reported_shows_its_state_and_no_data():
    one = overview(status=Cluster.Status.PENDING, enrolled_at=None)
    text = drawn(one)
    assert "<span>no data</span> <span>waiting</span>" in text
    assert text.count('<span class="bar none') == 2


def test_nothing_on_a_tile_is_trusted():
    one = overview(**healthy(NOW))
    one = replace(one, name=EVIL, health=replace(one.health, reason=EVIL))
    text = drawn(one, [Note("source", EVIL, "data")])
    assert "<img" not in text
    assert text.count("</a>") == text.count("<a ") == 1
    assert text.count("&lt;img src=x onerror=alert(1)&gt;&quot;&#x27;&amp;") == 4


def test_tiles_keep_the_order_and_each_has_its_own_notes():
    first, second = overview(**healthy(NOW)), overview("south-1", **healthy(NOW))
    notes = {second.id: [Note("clock", "clock 9 s ahead", "tunnel")]}
    one, two = words(tiles({"now": NOW, "notes": notes}, [first, second])).split("</li>")[:2]
    assert "north-1" in one
    assert "clock" not in one
    assert "; clock 9 s ahead" in two
    assert '<span class="tag">clock off</span>' in two
