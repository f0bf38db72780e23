"""An empty database in the place of ours, under a centre that runs: 503 in words, never 500."""

from __future__ import annotations

import pytest
from django.test import Client

from tests.access.test_no_writes import (
    LOGIN,
    addresses,
    api_client,
    asked,
    page_client,
)
from tests.databasefaults import emptied
from tests.factories import PASSWORD

pytestmark = pytest.mark.django_db(transaction=True)
WORDS = "it lacks a table or a column of this version"


@pytest.mark.parametrize("who", ["session", "token", "visitor"])
def test_no_page_and_no_endpoint_answers_500_on_an_empty_database(
    who, admin, cluster, store, tmp_path
):
    client = {
        "session": lambda: page_client(admin),
        "token": lambda: api_client(admin),
        "visitor": page_client,
    }[who]()
    urls = addresses(cluster)
    with emptied(tmp_path):
        answers = asked(client, urls)
    assert {url: answer for url, answer in answers.items() if answer[0] == 500} == {}
    refused = [url for url, (status, _) in answers.items() if status == 503]
    assert len(refused) > 30 or who == "visitor"


@pytest.mark.parametrize("url", ["/", "/api/v1/clusters/", "/prometheus/api/v1/labels"])
@pytest.mark.parametrize("who", [page_client, api_client])
def test_the_answer_says_that_the_database_is_another_one(who, url, admin, tmp_path):
    client = who(admin)
    with emptied(tmp_path):
        answer = client.get(url)
    if who is page_client or url != "/":
        assert (answer.status_code, WORDS in answer.content.decode()) == (503, True)


def test_a_sign_in_says_so_too(admin, tmp_path):
    client = Client(raise_request_exception=False)
    with emptied(tmp_path):
        answer = client.post(LOGIN, {"login": admin.username, "password": PASSWORD})
    assert (answer.status_code, WORDS in answer.content.decode()) == (503, True)
