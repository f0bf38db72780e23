"""Outages in real time: what is seen while they last, and that nothing is missing afterwards.

The stories began with the scene and are told in :mod:`tests.e2e.scene.outages`.
"""

from __future__ import annotations

import pytest

from tests.e2e.scene.outages import OUTAGES

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


@pytest.mark.parametrize("story", OUTAGES)
def test_it_is_seen_while_it_lasts_and_made_good_after_it(scene, story):
    scene.outages[story].result(timeout=500)
