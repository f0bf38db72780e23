"""How often somebody may try to enrol."""

from __future__ import annotations

import pytest
from rest_framework.test import APIClient

from clusters.enrolment import services
from clusters.models import AuditEvent, Cluster
from tests.factories import public_key

pytestmark = pytest.mark.django_db


def enrol(token: str, address: str, **headers: str) -> int:
    sent = {"token": token, "public_key": public_key()}
    answer = APIClient().post(
        "/api/v1/agents/enrol", sent, format="json", REMOTE_ADDR=address, **headers
    )
    return int(answer.status_code)


def address(number: int) -> str:
    return f"198.51.{number // 250}.{number % 250}"


def test_unknown_tokens_are_limited_by_address_and_not_by_headers() -> None:
    statuses = [
        enrol("ocj_guess", "203.0.113.9", HTTP_X_FORWARDED_FOR=address(number))
        for number in range(12)
    ]

    assert statuses == [403] * 10 + [429] * 2


def test_hundreds_of_other_addresses_make_nobody_forget_the_first() -> None:
    for _ in range(10):
        enrol("ocj_guess", "203.0.113.9")
    for number in range(150):
        enrol("ocj_guess", address(number))

    assert enrol("ocj_guess", "203.0.113.9") == 429


def test_all_unknown_tokens_together_write_so_many_audit_lines_a_minute() -> None:
    statuses = {enrol("ocj_guess", address(number)) for number in range(200)}

    assert statuses == {403, 429}
    assert AuditEvent.objects.filter(action="agent.enrol", ok=False).count() == 120


def test_strangers_use_up_nothing_of_a_site_that_has_a_token(cluster: Cluster) -> None:
    token = services.issue_join_token(cluster, actor=None)
    for number in range(150):
        enrol("ocj_guess", address(number))
    for _ in range(12):
        enrol("ocj_guess", "203.0.113.9")

    assert enrol(token, "203.0.113.9") == 200


def test_a_token_of_ours_counts_for_its_cluster_wherever_it_is_shown(cluster: Cluster) -> None:
    token = services.issue_join_token(cluster, actor=None)
    statuses = [enrol(token, address(number)) for number in range(11)]

    assert statuses[-1] == 429
