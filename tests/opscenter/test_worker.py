"""What a worker sets up for itself."""

from __future__ import annotations

import gc

from celery.signals import worker_init

from opscenter.celery import app


def test_a_worker_looks_for_garbage_less_often_than_python_would():
    before = gc.get_threshold()
    try:
        worker_init.send(sender=app)
        assert gc.get_threshold()[0] >= 50_000
        assert gc.isenabled()
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
