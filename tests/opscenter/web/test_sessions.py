"""Sessions on a database that refuses: what is told, and what may wait."""

from __future__ import annotations

import os

import pytest
from django.contrib.sessions.backends.base import UpdateError
from django.contrib.sessions.models import Session
from django.db import InternalError, OperationalError, connection

from opscenter.core.database import database_trouble
from opscenter.web.sessions import SessionStore
from tests.databasefaults import full_disk, read_only

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def session():
    one = SessionStore()
    one["a"] = 1
    one.save()
    return one


def test_a_refusal_is_not_called_a_deleted_session(session):
    session["a"] = os.urandom(500_000).hex()
    fault = full_disk if connection.vendor == "sqlite" else read_only
    with fault(), pytest.raises((OperationalError, InternalError)) as refused:
        session.save()
    assert "takes no changes" in database_trouble(refused.value)


def test_a_session_that_was_deleted_is_still_noticed(session):
    Session.objects.all().delete()
    with pytest.raises(UpdateError):
        session.save()


def test_a_strict_session_must_get_its_new_key(session):
    session.strict = True
    with read_only(), pytest.raises((OperationalError, InternalError)):
        session.cycle_key()


def test_another_session_keeps_its_key_and_content_until_it_can_be_written(session):
    key = session.session_key
    with read_only():
        session.cycle_key()
    assert (session.session_key, session["a"]) == (key, 1)
    session.cycle_key()
    assert session.session_key != key
    assert SessionStore(session.session_key)["a"] == 1
    assert not Session.objects.filter(pk=key).exists()


def test_a_strict_session_must_be_deleted(session):
    session.strict = True
    with read_only(), pytest.raises((OperationalError, InternalError)):
        session.flush()


def test_another_session_is_forgotten_though_its_row_stays(session):
    with read_only():
        session.flush()
    assert session.session_key is None
    assert session.is_empty()
