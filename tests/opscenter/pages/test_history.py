"""The pages of history: a cluster's strip and list, the fleet's hours, and a missing node."""

from __future__ import annotations

import csv
import io
import re
from datetime import UTC, datetime, timedelta

import pytest

from clusters.models import AuditEvent, ClusterEvent, ClusterNode, ClusterStatus
from tests.factories import ClusterFactory, healthy
from tests.opscenter.pages.measured import measure

pytestmark = pytest.mark.django_db


@pytest.fixture
def now():
    return datetime.now(UTC).replace(microsecond=0)


@pytest.fixture
def alpha(client, operator, now):
    client.force_login(operator)
    return ClusterFactory(name="alpha", **healthy(now, since=now - timedelta(days=5)))


def event(cluster, key, level, began, ended=None, *, known=None, **columns):
    return ClusterEvent.objects.create(
        cluster=cluster, key=key, level=level, began_at=began, began_known_at=known or began,
        ended_at=ended, ended_known_at=ended, **columns,
    )  # fmt: skip


def page(client, url):
    response = client.get(url)
    assert response.status_code == 200, response.content[:2000]
    return re.sub(r"\s+", " ", response.content.decode())


def words(html):
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


def outage(cluster, now):
    """Two days ago: ok, then three hours degraded by a node, then ok until now."""
    bad, good = now - timedelta(days=2), now - timedelta(days=2) + timedelta(hours=3)
    event(cluster, "state", "ok", now - timedelta(days=5), bad, ending="changed")
    event(cluster, "state", "degraded", bad, good, text="1 of 3 nodes is not ready: n3",
          known=bad + timedelta(minutes=9), ending="changed")  # fmt: skip
    event(cluster, "node:n3", "degraded", bad, good, text="node n3 is not ready",
          began_at_least=True, ending="over")  # fmt: skip
    event(cluster, "state", "ok", good)


def test_a_week_is_shown_as_a_strip_and_a_list(client, alpha, now):
    outage(alpha, now)
    html = page(client, f"/clusters/{alpha.pk}/?tab=history")
    assert 'aria-label="States over this time: degraded 3 h, ok 4 d 21 h, not recorded' in html
    assert re.findall(r'<i class="(\w+)" style', html) == [
        "none", "ok", "degraded", "ok",
    ]  # fmt: skip
    text = words(html)
    assert "The cluster : 1 of 3 nodes is not ready: n3" in text
    assert "noticed" in text
    assert "or earlier" in text


def test_names_of_nodes_in_the_list_lead_to_their_pages(client, alpha, now):
    outage(alpha, now)
    html = page(client, f"/clusters/{alpha.pk}/?tab=history")
    link = f'<a class="link" href="/clusters/{alpha.pk}/nodes/n3/">n3</a>'
    assert f"</b>: 1 of 3 nodes is not ready: {link}" in html
    assert f"node {link} is not ready" in html


def test_the_overview_has_the_strip_of_the_last_week_whatever_its_range(client, alpha, now):
    outage(alpha, now)
    html = page(client, f"/clusters/{alpha.pk}/?range=1h")
    assert "Last 7 days: degraded 3 h, ok 4 d 21 h, not recorded" in html


def test_only_the_states_are_listed_if_asked(client, alpha, now):
    outage(alpha, now)
    text = words(page(client, f"/clusters/{alpha.pk}/?tab=history&key=state&range=90d"))
    assert "node n3 is not ready" not in text


def test_a_strip_of_many_changes_shows_the_worst_of_each_cell(client, alpha, now):
    begin = now - timedelta(hours=12)
    for n in range(330):
        at = begin + timedelta(minutes=n)
        event(alpha, "state", "critical" if n % 2 else "ok", at, at + timedelta(minutes=1))
    html = page(client, f"/clusters/{alpha.pk}/?tab=history&range=24h")
    assert "each cell shows its worst state" in html
    assert len(re.findall(r'<i class="\w+" style', html)) == 240


def test_what_is_recorded_is_a_file_and_a_line_of_the_audit_log(client, alpha, now):
    outage(alpha, now)
    answer = client.get(f"/clusters/{alpha.pk}/history.csv?key=node:n3")
    (line,) = csv.DictReader(io.StringIO(answer.content.decode()))
    assert (line["cluster"], line["level"], line["ending"]) == ("alpha", "degraded", "over")
    assert line["began_at_least"] == "yes"
    assert AuditEvent.objects.get().detail["what"] == "history of states"


def test_the_fleet_has_one_row_a_cluster_and_one_cell_an_hour(client, alpha, now):
    outage(alpha, now)
    lost = ClusterFactory(name="beta", **healthy(now - timedelta(hours=4)))
    event(lost, "state", "ok", now - timedelta(days=3))
    html = page(client, "/history/")
    rows = re.findall(r'<div class="hour-cells">(.*?)</div>', html)
    assert len(rows) == 2
    # The worst cluster of now is first: what nobody recorded since is not ok.
    cells = re.findall(r'<a class="(\w+)"', rows[0])
    assert len(cells) == 48
    assert set(cells[-3:]) == {"unknown"}
    assert cells[0] == "ok"
    assert f"/clusters/{lost.pk}/?tab=history&amp;start=" in rows[0]
    assert "not recorded" not in rows[1]


def test_the_fleet_of_any_size_asks_the_same_number_of_queries(
    client, alpha, now, django_assert_max_num_queries
):
    client.get("/history/")
    for n in range(12):
        one = ClusterFactory(name=f"c{n}", customer=alpha.customer, **healthy(now))
        event(one, "state", "ok", now - timedelta(days=1))
    with django_assert_max_num_queries(9):
        html = page(client, "/history/?hours=24")
    assert html.count('<div class="hour-cells">') == 13


def test_another_customers_clusters_are_on_no_history(client, viewer, cluster, alpha):
    client.force_login(viewer)
    assert "alpha" not in page(client, "/history/")


def test_a_missing_node_is_dismissed_with_a_button(client, operator, viewer, cluster, now):
    measure(cluster)
    ClusterStatus.objects.update_or_create(cluster=cluster, defaults={"data_as_of": now})
    ClusterNode.objects.create(
        cluster=cluster, name="node-1", first_seen_at=now - timedelta(days=9),
        last_seen_at=now - timedelta(hours=1), listed_by="prometheus",
    )  # fmt: skip
    url = f"/clusters/{cluster.pk}/nodes/node-1/"
    client.force_login(viewer)
    assert "This node is missing" in page(client, url)
    assert "dismiss it" not in page(client, url)
    client.force_login(operator)
    assert "dismiss it" in page(client, url)
    client.post(f"{url}dismiss/")
    text = words(page(client, url))
    assert "node-1 was dismissed" in text
    assert "by operator" in text
    client.post(f"{url}dismiss/")
    assert "Only a missing node can be dismissed; this one is dismissed." in page(client, url)
