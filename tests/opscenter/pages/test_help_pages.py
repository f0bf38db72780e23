"""Help: the states with the limits that the judgement uses, and the documents."""

from __future__ import annotations

import re
from typing import get_args

import pytest

from clusters import health
from clusters.conditions import Condition, What
from clusters.health import WORST_FIRST
from clusters.health_history import LEFT_OUT, STATE
from tests.centre import ROOT
from tests.factories import ClusterFactory, healthy

pytestmark = pytest.mark.django_db
WHATS = get_args(What)


@pytest.fixture
def page(client, operator):
    client.force_login(operator)

    def get(path: str) -> str:
        answer = client.get(path)
        assert answer.status_code == 200
        return " ".join(answer.content.decode().split())

    return get


def test_every_state_is_explained_where_its_word_leads(page):
    ClusterFactory(name="well", **healthy())
    text = page("/help/states/")
    for state in (*WORST_FIRST, "nodes", "notes"):
        assert f'<section class="card pad" id="{state}">' in text
    assert 'href="/help/states/#unknown"' in page("/?view=table")


def finding_keys() -> set[str]:
    """Return the first part of every key that a finding or a row of the history can have."""
    source = "".join(path.read_text() for path in sorted((ROOT / "clusters").glob("*.py")))
    written = re.findall(r"(?:Finding|_Stale)\(\s*\"([a-z_]+)\"", source)
    of_conditions = [Condition(what=what, node="n", name="x").key for what in WHATS]
    return {*written, STATE, LEFT_OUT, *(key.partition(":")[0] for key in of_conditions)}


def test_every_key_of_a_finding_is_explained_to_users_and_in_the_documents(page):
    help_text, document = page("/help/states/"), (ROOT / "docs" / "health.md").read_text()
    assert len(finding_keys()) > 15
    for key in finding_keys():
        assert re.search(rf"<code>{key}[:<]", help_text), key
        assert re.search(rf"^\| `{key}[:`]", document, re.MULTILINE), key
    explained = set(re.findall(r"^\| `([a-z_]+)[:`]", document, re.MULTILINE))
    assert explained == finding_keys()


def test_every_kind_of_condition_is_explained(page):
    help_text, document = page("/help/states/"), (ROOT / "docs" / "health.md").read_text()
    for what in WHATS:
        assert what in help_text, what
        assert f"`{what}" in document, what


def test_the_limits_are_those_of_the_judgement(page, monkeypatch):
    text = page("/help/states/")
    assert "at least 90 % full" in text
    assert "for more than 30 s" in text
    monkeypatch.setattr(health, "FILESYSTEM_CRITICAL", 0.97)
    monkeypatch.setattr(health, "TUNNEL_GRACE_SECONDS", 45)
    text = page("/help/states/")
    assert "at least 97 % full" in text
    assert "for more than 45 s" in text


def test_what_is_not_known_is_explained_for_clusters_and_for_nodes(page):
    text = page("/help/states/")
    assert "it is not known whether every node is ready" in text
    assert "A minute in which the agent could not see its cluster is no data" in text
    assert "It counts as not ready for 24 h" in text


def test_a_state_word_leads_to_its_explanation_without_a_stop_of_the_tab_key_in_each_row(page):
    cluster = ClusterFactory(name="quiet", **healthy(tunnel_up=False))
    row = page("/?view=table")
    assert 'href="/help/states/#unknown" title="What this means" tabindex="-1"' in row
    assert '<a href="/help/states/" title="What the states mean">State</a>' in row
    head = page(f"/clusters/{cluster.pk}/")
    assert '<a class="st unknown" href="/help/states/#unknown" title="What this means">' in head


def test_the_foot_of_pages_leads_to_help_and_the_api(page):
    text = page("/")
    foot = text[text.index('<footer class="foot">') :]
    assert '<a href="/help/">Help</a>' in foot
    assert '<a href="/api/v1/docs">API</a>' in foot or '<a href="/api/v1/docs/">API</a>' in foot


def test_the_documents_are_listed_by_title_and_can_be_read(page, client):
    text = page("/help/")
    assert '<a class="link" href="/help/docs/retention.md">' in text
    answer = client.get("/help/docs/retention.md")
    assert answer["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.content == (ROOT / "docs" / "retention.md").read_bytes()


def test_where_documents_are_not_installed_none_are_listed(page, monkeypatch, tmp_path):
    monkeypatch.setattr("opscenter.pages.help_pages.DOCUMENTS", tmp_path)
    assert "Documentation of version" not in page("/help/")
