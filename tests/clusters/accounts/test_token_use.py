"""When API tokens were last used: noted in Redis, written by a worker, and no reason to wait."""

from __future__ import annotations

import socket
from datetime import UTC, datetime, timedelta

import pytest
import redis
from django.core.cache import cache

from clusters.accounts.token_use import note_use, write_uses
from clusters.models import ApiToken
from clusters.tasks import write_token_uses
from opscenter.celery import app

pytestmark = pytest.mark.django_db
AT = datetime(2026, 11, 1, 10, 0, tzinfo=UTC)


def make_token(user, **values) -> ApiToken:
    return ApiToken.objects.create(user=user, name="test", **values)[0]


def used_at(token: ApiToken) -> datetime | None:
    return ApiToken.objects.get(pk=token.pk).last_used_at


def test_a_use_is_written_by_the_worker(operator, redis_server):
    token, other = make_token(operator), make_token(operator)
    note_use(token, AT)
    assert used_at(token) is None
    assert write_uses(AT) == 1
    assert used_at(token) == AT
    assert used_at(other) is None
    assert write_uses(AT) == 0


def test_a_use_that_was_written_meanwhile_is_not_set_back(operator, redis_server):
    token = make_token(operator)
    ApiToken.objects.update(last_used_at=AT + timedelta(hours=1))
    note_use(token, AT)
    assert write_uses(AT) == 0
    assert used_at(token) == AT + timedelta(hours=1)


def test_redis_forgets_tokens_that_are_gone(operator, redis_server):
    token = make_token(operator)
    note_use(token, AT)
    token.delete()
    assert write_uses(AT) == 0
    client = redis.Redis.from_url(redis_server)
    assert client.keys("opscenter:tokens:*") == []


def test_expired_tokens_are_deleted_by_the_worker(operator, redis_server):
    gone = make_token(operator, expiry=timedelta(days=-1))
    kept = [make_token(operator, expiry=None), make_token(operator, expiry=timedelta(days=1))]
    write_token_uses()
    assert set(ApiToken.objects.all()) == set(kept)
    assert gone not in kept


def test_without_redis_a_use_is_not_recorded_and_nothing_fails(operator, settings):
    settings.REDIS_URL = "unix:///nowhere/redis.sock"
    note_use(make_token(operator), AT)


def test_a_redis_that_does_not_answer_is_not_waited_for(operator, settings, starts_servers):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings.REDIS_URL = f"redis://127.0.0.1:{silent.getsockname()[1]}"
        note_use(make_token(operator), AT)


def test_redis_is_asked_at_most_once_a_minute_for_each_token(operator, redis_server):
    token, other = make_token(operator), make_token(operator)
    note_use(token, AT)
    redis.Redis.from_url(redis_server).flushall()
    note_use(token, AT + timedelta(seconds=30))
    note_use(other, AT)
    assert write_uses(AT) == 1
    cache.clear()  # as after a minute
    note_use(token, AT + timedelta(seconds=70))
    assert write_uses(AT) == 1


def test_beat_sends_the_task_under_its_name():
    entries = {entry["task"] for entry in app.conf.beat_schedule.values()}
    assert write_token_uses.name in entries
