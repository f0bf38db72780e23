"""How often somebody may guess a password or a second factor."""

from __future__ import annotations

import time
from typing import Any

import pytest
from allauth.mfa.totp.internal.auth import TOTP, format_hotp_value, hotp_value
from django.contrib.auth.models import User
from django.http import HttpResponse
from django.test import Client

from clusters.accounts.attempts import ACCOUNT_PASSWORDS, CODES, WRONG_PASSWORDS
from clusters.models import AuditEvent
from tests.budgets import forget_budgets
from tests.factories import PASSWORD, UserFactory

pytestmark = pytest.mark.django_db
LOGIN = "/accounts/login/"
CODE = "/accounts/2fa/authenticate/"
SECRET = "JBSWY3DPEHPK3PXP"


def enter(client: Client, address: str, password: str, user: str = "operator") -> HttpResponse:
    sent = {"login": user, "password": password}
    return client.post(LOGIN, sent, REMOTE_ADDR=address)


def right_code() -> str:
    return str(format_hotp_value(hotp_value(SECRET, int(time.time()) // 30)))


def test_guesses_from_one_address_are_refused_whatever_header_it_sends(
    client: Client, operator: User
) -> None:
    answers = [
        client.post(
            LOGIN,
            {"login": f"user-{number}", "password": "wrong"},
            HTTP_X_FORWARDED_FOR=f"10.0.0.{number}",
        )
        for number in range(12)
    ]

    assert [answer.status_code for answer in answers] == [200] * 10 + [429] * 2
    assert "too many wrong passwords: at most 10 in 1 minute" in answers[-1].content.decode()
    assert int(answers[-1]["Retry-After"]) >= 1


def test_two_addresses_of_one_host_share_its_guesses(client: Client, operator: User) -> None:
    for number in range(10):
        enter(client, f"2001:db8:1:2::{number}", "wrong", user=f"user-{number}")

    assert enter(client, "2001:db8:1:2:ffff::1", PASSWORD).status_code == 429
    assert enter(client, "2001:db8:1:3::1", PASSWORD).status_code == 302


def test_thousands_of_other_addresses_make_nobody_forget_the_first(
    client: Client, operator: User
) -> None:
    for number in range(10):
        enter(client, "203.0.113.9", "wrong", user=f"user-{number}")
    for number in range(5000):
        WRONG_PASSWORDS.spend(f"198.51.{number // 250}.{number % 250}")

    assert enter(client, "203.0.113.9", PASSWORD).status_code == 429


def test_wrong_guesses_of_a_stranger_do_not_lock_the_user_out(
    client: Client, operator: User
) -> None:
    for number in range(12):
        forget_budgets(within_seconds=60)
        enter(client, "203.0.113.9", f"wrong {number}")

    forget_budgets(within_seconds=60)
    assert enter(client, "203.0.113.9", PASSWORD).status_code != 302
    assert enter(client, "192.0.2.1", PASSWORD).status_code == 302
    assert AuditEvent.objects.filter(action="user.lock_out", ok=False).exists()


def test_a_right_password_takes_no_other_guess_back(client: Client, operator: User) -> None:
    UserFactory(username="attacker")
    for number in range(9):
        enter(client, "203.0.113.9", "wrong", user=f"user-{number}")
    assert enter(Client(), "203.0.113.9", PASSWORD, user="attacker").status_code == 302

    answers = [enter(client, "203.0.113.9", "wrong", user=f"u{n}").status_code for n in (1, 2)]

    assert answers == [200, 429]


def test_guesses_at_one_account_from_everywhere_do_not_keep_out_its_owners_device(
    client: Client, operator: User
) -> None:
    assert enter(client, "192.0.2.1", PASSWORD).status_code == 302
    client.post("/accounts/logout/")
    for _ in range(ACCOUNT_PASSWORDS.limit):
        ACCOUNT_PASSWORDS.spend("operator")

    stranger = enter(Client(), "198.51.100.7", PASSWORD)

    assert stranger.status_code == 429
    assert "from devices that never signed in" in stranger.content.decode()
    assert enter(client, "192.0.2.1", PASSWORD).status_code == 302


def test_a_device_is_known_for_the_account_that_signed_in_only(
    client: Client, operator: User
) -> None:
    UserFactory(username="attacker")
    enter(client, "203.0.113.9", PASSWORD, user="attacker")
    client.post("/accounts/logout/")
    for _ in range(ACCOUNT_PASSWORDS.limit):
        ACCOUNT_PASSWORDS.spend("operator")

    assert enter(client, "203.0.113.9", PASSWORD).status_code == 429


def test_a_device_cookie_that_is_not_ours_is_worth_nothing(client: Client, operator: User) -> None:
    for _ in range(ACCOUNT_PASSWORDS.limit):
        ACCOUNT_PASSWORDS.spend("operator")
    client.cookies["opscenter-device"] = "operator:1x:forged"

    assert enter(client, "203.0.113.9", PASSWORD).status_code == 429


def test_codes_are_counted_by_account_wherever_they_come_from(
    operator: User, client: Client
) -> None:
    TOTP.activate(operator, SECRET)
    answers = [guess(f"198.51.100.{number}") for number in range(6)]

    assert answers == [200] * 5 + [429]
    # The right one is not judged either, and the pending sign-in is gone.
    enter(client, "192.0.2.1", PASSWORD)
    assert client.post(CODE, {"code": right_code()}, REMOTE_ADDR="192.0.2.1").status_code == 429
    assert client.get(CODE).status_code == 302
    assert AuditEvent.objects.filter(action="second_factor.lock_out", actor="operator").count() == 1


def guess(address: str) -> int:
    """Enter the right password and a wrong code on a device of its own; return the status."""
    device = Client()
    enter(device, address, PASSWORD)
    return device.post(CODE, {"code": "000000"}, REMOTE_ADDR=address).status_code


def test_a_code_of_ones_own_takes_no_guess_at_another_account_back(operator: User) -> None:
    attacker = UserFactory(username="attacker")
    TOTP.activate(operator, SECRET)
    TOTP.activate(attacker, SECRET)
    for _ in range(4):
        guess("203.0.113.9")
    own = Client()
    enter(own, "203.0.113.9", PASSWORD, user="attacker")
    assert own.post(CODE, {"code": right_code()}, REMOTE_ADDR="203.0.113.9").status_code == 302
    forget_budgets(within_seconds=60)

    assert [guess("203.0.113.9"), guess("203.0.113.9")] == [200, 429]


def test_a_right_code_is_no_guess(operator: User) -> None:
    TOTP.activate(operator, SECRET)
    device = Client()
    enter(device, "192.0.2.1", PASSWORD)
    device.post(CODE, {"code": right_code()}, REMOTE_ADDR="192.0.2.1")

    assert CODES.spend(operator.pk) == CODES.limit - 1


def test_within_a_day_twenty_codes_are_judged(operator: User) -> None:
    TOTP.activate(operator, SECRET)
    judged = 0
    for number in range(25):
        forget_budgets(within_seconds=300)
        judged += guess(f"198.51.100.{number}") == 200

    assert judged == 20


def test_a_session_outlives_the_lock_of_its_account(operator: User, client: Client) -> None:
    enter(client, "192.0.2.1", PASSWORD)
    TOTP.activate(operator, SECRET)
    for number in range(6):
        guess(f"198.51.100.{number}")

    assert client.get("/", REMOTE_ADDR="192.0.2.1").status_code == 200


def test_checks_of_ones_own_password_are_limited_by_user(client: Client, operator: User) -> None:
    client.force_login(operator, backend="django.contrib.auth.backends.ModelBackend")
    wrong: dict[str, Any] = {"oldpassword": "x", "password1": "y", "password2": "y"}

    answers = [client.post("/accounts/password/change/", wrong).status_code for _ in range(11)]

    assert (answers[0], answers[-1]) == (200, 429)
