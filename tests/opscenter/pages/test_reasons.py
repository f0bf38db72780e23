"""Links in reasons: only whole names of nodes, and nothing that a name says is trusted."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest

from opscenter.pages.reasons import linked
from tests.factories import ClusterFactory, healthy

CLUSTER = UUID("00000000-0000-4000-8000-000000000001")
PATH = f"/clusters/{CLUSTER}"


def test_names_are_links_and_the_rest_leads_to_the_list():
    text = linked(
        "3 of 9 nodes are not ready: n1, n2 and 1 more", CLUSTER, ["n1", "n2"], "range=6h"
    )
    assert text == (
        "3 of 9 nodes are not ready: "
        f'<a class="link" href="{PATH}/nodes/n1/?range=6h">n1</a>, '
        f'<a class="link" href="{PATH}/nodes/n2/?range=6h">n2</a> '
        f'<a class="link" href="{PATH}/?tab=nodes&amp;range=6h">and 1 more</a>'
    )


@pytest.mark.parametrize("text", ["node-10 is away", "my-node-1", "node-1.example.org", "xnode-1"])
def test_a_name_inside_another_is_no_name(text):
    assert linked(text, CLUSTER, ["node-1"]) == text


def test_the_longer_of_two_names_is_found():
    text = linked("not ready: a.b", CLUSTER, ["a", "a.b"])
    assert text == f'not ready: <a class="link" href="{PATH}/nodes/a.b/">a.b</a>'


def test_hostile_names_and_texts_are_escaped():
    evil = "<img src=x onerror=alert(1)>\"'"
    text = linked(f"<b>not ready</b>: {evil}", CLUSTER, [evil])
    assert "<img" not in text
    assert "<b>" not in text
    assert text.count("<a ") == 1


def test_more_of_something_else_is_no_link():
    assert "<a" not in linked("pulls fail: a, b and 3 more", CLUSTER, ["node-1"])
    assert linked("and 3 more", CLUSTER, []) == "and 3 more"


@pytest.mark.django_db
def test_reasons_have_links_on_the_fleet_page_in_the_head_and_beside_the_fullest(client, operator):
    client.force_login(operator)
    full = {"fs_worst_ratio": 0.95, "fs_worst_name": "node-7 /var"}
    cluster = ClusterFactory(**healthy(datetime.now(UTC), **full))
    node = f'<a class="link" href="/clusters/{cluster.pk}/nodes/node-7/'
    assert f'{node}">node-7</a>' in client.get("/?view=table").content.decode()
    text = client.get(f"/clusters/{cluster.pk}/?range=6h").content.decode()
    assert text.count(f'{node}?range=6h">node-7</a>') == 2
