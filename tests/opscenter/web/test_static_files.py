"""Static files as the web process serves them, without a line in its log."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
from django.test import AsyncClient, Client

pytestmark = pytest.mark.django_db  # a request closes old connections


@pytest.fixture(autouse=True)
def collected_files(settings, tmp_path: Path) -> None:
    """Stand for the directory that the first start makes; list files once, as in production."""
    settings.WHITENOISE_AUTOREFRESH = False
    settings.STATIC_ROOT = tmp_path


def test_a_static_file_is_whole_and_may_be_cached():
    answer = Client().get("/static/css/base.css")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/css")
    assert len(answer.content) == int(answer.headers["Content-Length"]) > 0
    assert "max-age=3600" in answer.headers["Cache-Control"]


def test_a_static_file_that_did_not_change_is_not_sent_again():
    kept = Client().get("/static/css/base.css").headers["ETag"]
    answer = Client().get("/static/css/base.css", headers={"If-None-Match": kept})
    assert (answer.status_code, answer.content) == (304, b"")
    assert "Content-Type" not in answer.headers


def test_asking_for_a_part_or_for_the_head_works():
    part = Client().get("/static/css/base.css", headers={"Range": "bytes=0-9"})
    assert (part.status_code, len(part.content)) == (206, 10)
    head = Client().head("/static/css/base.css")
    assert (head.status_code, head.content) == (200, b"")


async def test_django_under_asgi_has_nothing_to_warn_of():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        answer = await AsyncClient().get("/static/css/base.css")
        assert not answer.streaming
    assert answer.status_code == 200
