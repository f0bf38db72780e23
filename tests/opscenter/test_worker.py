"""What a worker sets up for itself."""

from __future__ import annotations

import gc

from celery.signals import worker_init

from opscenter.celery import app
from opscenter.core.heartbeats import read_heartbeats
from opscenter.tasks import heartbeat


def test_a_worker_collects_garbage_less_often_than_python_would():
    before = gc.get_threshold()
    try:
        worker_init.send(sender=app)
        assert gc.get_threshold()[0] >= 50_000
        assert gc.isenabled()
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def test_a_heartbeat_shows_its_sender_its_worker_and_that_some_worker_works(redis_server):
    heartbeat("up", "worker-2")
    names = ("up", "worker", "worker-1", "worker-2")
    assert [name for name, at in read_heartbeats(names).items() if at is None] == ["worker-1"]


def test_a_worker_shows_life_by_the_task_of_beat_that_it_runs(redis_server, settings):
    settings.WORKER_PROCESSES = 2
    for host in ("worker-2@far", "stranger@far"):
        heartbeat.push_request(hostname=host)
        try:
            heartbeat.run("beat")
        finally:
            heartbeat.pop_request()
    names = ("worker-1", "worker-2", "stranger")
    assert [name for name, at in read_heartbeats(names).items() if at is not None] == ["worker-2"]
