"""Outages in real time: what is shown while they last, and that nothing is missing afterwards.

They began with the scene, in :mod:`tests.e2e.scene.outages`.
"""

from __future__ import annotations

import time

import pytest

from tests.e2e.scene.outages import OUTAGES

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


@pytest.mark.parametrize("story", OUTAGES)
def test_an_outage_is_shown_while_it_lasts_and_filled_afterwards(scene, story):
    scene.outages[story].result(timeout=500)


def test_all_of_it_ran_on_postgresql_without_an_error_of_the_centre(scene):
    code = "from django.db import connection; print(connection.vendor)"
    assert "postgresql" in scene.centre.manage("shell", "-v0", "-c", code).stdout
    usual = (
        "ERROR django.request: Service Unavailable: /readyz",  # asked before it was
        # CPython ends a transport twice where a write fails while the other side closes.
        "ERROR asyncio: Exception in callback _SelectorSocketTransport._call_connection_lost",
    )
    bad = [
        line
        for line in scene.centre.lines
        if (" ERROR " in line or " CRITICAL " in line) and not any(text in line for text in usual)
    ]
    assert "\n".join(bad) == ""
    assert time.time() - scene.started_at > 120
    restarted = [line for line in scene.centre.lines if "starting it again" in line]
    assert restarted == []
