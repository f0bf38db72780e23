"""How often somebody may guess: passwords by address and account, second factors by account.

An attempt is counted before it is judged and taken back if it was right, so that guesses that are
made at the same time count, too, and a success clears nobody else's count.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser
from django.http import HttpRequest

from clusters import audit
from clusters.accounts.devices import knows_account
from opscenter.core.budgets import BudgetError, Rate, peer_group
from opscenter.core.text import one_line

SIGN_INS = Rate(
    "sign_ins", "attempts to sign in",
    by="address", limit=30, seconds=60, processes=settings.WEB_PROCESSES,
)  # fmt: skip
WRONG_PASSWORDS = Rate(
    "wrong_passwords", "wrong passwords",
    by="address", limit=10, seconds=60, processes=settings.WEB_PROCESSES,
)  # fmt: skip
ACCOUNT_PASSWORDS = Rate(
    "account_passwords", "wrong passwords from devices that never signed in",
    by="account", limit=100, seconds=3600, processes=settings.WEB_PROCESSES,
)  # fmt: skip
CODES = Rate(
    "second_factors", "wrong codes",
    by="account", limit=5, seconds=300, processes=settings.WEB_PROCESSES,
)  # fmt: skip
CODES_A_DAY = Rate(
    "second_factors_a_day", "wrong codes",
    by="account", limit=20, seconds=86_400, processes=settings.WEB_PROCESSES,
)  # fmt: skip
OWN_PASSWORDS = Rate(
    "own_passwords", "checks of one's own password",
    by="user", limit=10, seconds=60, processes=settings.WEB_PROCESSES,
)  # fmt: skip


class PasswordAttempt:
    """One password that somebody enters for an account."""

    def __init__(self, request: HttpRequest, username: str) -> None:
        self._address = address_group(request)
        # Whoever signed in to the account on this device is not kept out by strangers' guesses.
        self._account = None if knows_account(request, username) else username.casefold()

    def begin(self) -> None:
        """Count the attempt as wrong, for now.

        Raises:
            BudgetError: too many were wrong, from this address or for this account.
        """
        WRONG_PASSWORDS.spend(self._address)
        try:
            ACCOUNT_PASSWORDS.spend(self._account)
        except BudgetError:
            WRONG_PASSWORDS.refund(self._address)
            raise

    def succeeded(self) -> None:
        """Take the attempt back: the password was right."""
        WRONG_PASSWORDS.refund(self._address)
        ACCOUNT_PASSWORDS.refund(self._account)


@contextmanager
def code_attempt(request: HttpRequest, user: AbstractBaseUser) -> Iterator[None]:
    """Count a code of a second factor as wrong unless the block ends well.

    The account is locked for codes, not for sessions that exist: the lock is written to the audit
    log when the last allowed code was wrong.

    Raises:
        BudgetError: too many codes of the account were wrong, from wherever.
    """
    left = CODES.spend(user.pk)
    try:
        left = min(left, CODES_A_DAY.spend(user.pk))
    except BudgetError:
        CODES.refund(user.pk)
        raise
    try:
        yield
    except Exception:
        if left == 0:
            detail = {"from": one_line(str(request.META.get("REMOTE_ADDR", "")), 60)}
            audit.record("second_factor.lock_out", actor=user, ok=False, detail=detail)
        raise
    CODES.refund(user.pk)
    CODES_A_DAY.refund(user.pk)


def address_group(request: HttpRequest) -> str:
    """Return the group of addresses that a request counts for."""
    return peer_group(str(request.META.get("REMOTE_ADDR", "")))


def axes_address(request: HttpRequest) -> str:
    """Return the address by which axes counts: of IPv6 the first of its /64."""
    return address_group(request).partition("/")[0]
